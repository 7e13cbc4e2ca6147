//! Rotary position embedding: what `config.json` says of it, and its angles.

use std::ops::Range;

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value};

use super::fields::Fields;

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    pub theta: f64,
    pub scaling: Option<Llama3Scaling>,
}

/// `rope_type: llama3`: low frequencies are slowed down by `factor`, high ones stay, those between are blended.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama3Scaling {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    pub original_max_position_embeddings: f64,
}

impl Rope {
    /// `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (4).
    pub(super) fn of(fields: &Fields) -> Result<Self> {
        let parameters: Option<Map<String, Value>> = fields.optional("rope_parameters")?;
        let scaling: Option<Map<String, Value>> = fields.optional("rope_scaling")?;
        ensure!(
            parameters.is_none() || scaling.is_none(),
            "rope_scaling and rope_parameters are both there; leave out the one that is not the model's"
        );
        let field = if scaling.is_some() { "rope_scaling" } else { "rope_parameters" };
        let parameters = parameters.or(scaling).unwrap_or_default();
        let rope = Fields(&parameters);
        let theta: f64 = match rope.optional("rope_theta")? {
            Some(theta) => theta,
            None => fields.optional("rope_theta")?.unwrap_or(10_000.0),
        };
        ensure!(theta > 0.0 && theta.is_finite(), "rope_theta {theta} is not a number above 0");
        let partial: f64 = rope.optional("partial_rotary_factor")?.unwrap_or(1.0);
        ensure!(partial == 1.0, "partial_rotary_factor {partial} is not supported; only 1 is");
        let rope_type = match (rope.optional::<String>("rope_type")?, rope.optional::<String>("type")?) {
            (Some(rope_type), Some(other)) if rope_type != other => {
                bail!(
                    "{field} has rope_type {rope_type:?} and type {other:?}; leave out the one that is not the model's"
                )
            }
            (Some(rope_type), _) | (None, Some(rope_type)) => rope_type,
            (None, None) => {
                let plain = ["rope_theta", "partial_rotary_factor", "rope_type", "type"];
                let other =
                    parameters.iter().find(|(name, value)| !plain.contains(&name.as_str()) && !value.is_object());
                if let Some((name, value)) = other {
                    bail!("{field} has {name} {value} and no rope_type, so that it is not known what it means");
                }
                "default".to_owned()
            }
        };
        let scaling = match rope_type.as_str() {
            "default" => {
                ensure!(
                    !parameters.values().any(Value::is_object),
                    "rope_parameters differ by layer, which is not supported"
                );
                None
            }
            "llama3" => {
                let scaling = Llama3Scaling {
                    factor: rope.required("factor")?,
                    low_freq_factor: rope.required("low_freq_factor")?,
                    high_freq_factor: rope.required("high_freq_factor")?,
                    original_max_position_embeddings: rope.required("original_max_position_embeddings")?,
                };
                scaling.check()?;
                Some(scaling)
            }
            other => bail!("rope_type {other:?} is not supported; supported are \"default\" and \"llama3\""),
        };
        Ok(Self { theta, scaling })
    }

    /// Angular frequencies of the `head_dim / 2` pairs, in f32 as transformers computes them.
    fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        let frequency = |i: usize| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            let frequency = 1.0 / (self.theta as f32).powf(exponent);
            self.scaling.as_ref().map_or(frequency, |scaling| scaling.apply(frequency))
        };
        (0..head_dim / 2).map(frequency).collect()
    }

    /// For each position the cosines, then the sines, of its angles: `[positions, head_dim]`. The angles are products
    /// in f32, as in transformers; what is computed of them is exact.
    pub fn table(&self, positions: Range<usize>, head_dim: usize) -> Vec<f64> {
        let frequencies = self.frequencies(head_dim);
        let angle = |position: usize, frequency: &f32| f64::from(position as f32 * frequency);
        let row = |position: usize| {
            let cosines = frequencies.iter().map(move |frequency| angle(position, frequency).cos());
            cosines.chain(frequencies.iter().map(move |frequency| angle(position, frequency).sin()))
        };
        positions.flat_map(row).collect()
    }
}

impl Llama3Scaling {
    fn check(&self) -> Result<()> {
        let Self { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: length } =
            *self;
        ensure!(factor >= 1.0 && factor.is_finite(), "factor {factor} of rope_type \"llama3\" is below 1");
        ensure!(
            0.0 < low && low < high && high.is_finite(),
            "low_freq_factor {low} and high_freq_factor {high} of rope_type \"llama3\" are not in order above 0"
        );
        ensure!(
            length >= 1.0 && length.is_finite(),
            "original_max_position_embeddings {length} of rope_type \"llama3\" is below 1"
        );
        Ok(())
    }

    fn apply(&self, frequency: f32) -> f32 {
        let wavelength = 2.0 * std::f64::consts::PI / f64::from(frequency);
        let ratio = self.original_max_position_embeddings / wavelength;
        let scaled = f64::from(frequency) / self.factor;
        if ratio < self.low_freq_factor {
            scaled as f32
        } else if ratio > self.high_freq_factor {
            frequency
        } else {
            let smooth = (ratio - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
            ((1.0 - smooth) * scaled + smooth * f64::from(frequency)) as f32
        }
    }
}
