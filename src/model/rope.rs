//! Rotary position embedding: what `config.json` says of it, and its angles.

use std::ops::Range;

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value};

use super::fields::Fields;

/// The types of layers, as configurations name them: those that see all before them, and those that see a window.
pub(super) const FULL_ATTENTION: &str = "full_attention";
pub(super) const SLIDING_ATTENTION: &str = "sliding_attention";

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    pub theta: f64,
    pub scaling: Option<Scaling>,
}

/// How angles are changed for sequences longer than a model first saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// `rope_type: linear`: every frequency is slowed down by `factor`.
    Linear {
        factor: f64,
    },
    Llama3(Llama3Scaling),
    Yarn(YarnScaling),
}

/// `rope_type: llama3`: low frequencies are slowed down by `factor`, high ones stay, those between are blended.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama3Scaling {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    pub original_max_position_embeddings: f64,
}

/// `rope_type: yarn` (Peng et al. 2023): pairs that turn fewer than `beta_slow` times over the original length are slowed down by
/// `factor`, those that turn more than `beta_fast` times stay, those between are blended; what is rotated grows by
/// `attention_factor`.
#[derive(Clone, Debug, PartialEq)]
pub struct YarnScaling {
    pub factor: f64,
    pub attention_factor: f64,
    pub beta_fast: f64,
    pub beta_slow: f64,
    pub original_max_position_embeddings: f64,
    /// Whether the first and last pair of those between are rounded to whole ones.
    pub truncate: bool,
}

impl Rope {
    /// `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (4).
    pub(super) fn of(fields: &Fields, default_theta: f64) -> Result<Self> {
        let (field, parameters) = parameters(fields)?;
        ensure!(!parameters.values().any(Value::is_object), "{field} differ by layer, which is not supported");
        Self::of_parameters(fields, field, &parameters, "rope_theta", default_theta)
    }

    /// Those of Gemma 3's layers that see all, and of those with a window: by the type of layer in `rope_parameters`
    /// (transformers 5), or `rope_theta` and `rope_scaling` of the first, `rope_local_base_freq` of the second (4).
    pub(super) fn of_gemma3(fields: &Fields) -> Result<[Self; 2]> {
        let (field, parameters) = parameters(fields)?;
        let is_nested = parameters.values().any(Value::is_object);
        let of = |layer_type: &str, theta_field, default_theta| {
            let nested: Map<String, Value> = Fields(&parameters).optional(layer_type)?.unwrap_or_default();
            let own = match (is_nested, layer_type) {
                (true, _) => nested,
                (false, FULL_ATTENTION) => parameters.clone(),
                (false, _) => Map::new(),
            };
            Self::of_parameters(fields, field, &own, theta_field, default_theta)
        };
        Ok([of(FULL_ATTENTION, "rope_theta", 1e6)?, of(SLIDING_ATTENTION, "rope_local_base_freq", 1e4)?])
    }

    /// What `parameters`, the object of `field`, say; where they are silent of theta, the configuration's `theta_field`.
    fn of_parameters(
        fields: &Fields,
        field: &str,
        parameters: &Map<String, Value>,
        theta_field: &str,
        default_theta: f64,
    ) -> Result<Self> {
        let rope = Fields(parameters);
        let theta: f64 = match rope.optional("rope_theta")? {
            Some(theta) => theta,
            None => fields.optional(theta_field)?.unwrap_or(default_theta),
        };
        ensure!(theta > 0.0 && theta.is_finite(), "{theta_field} {theta} is not a number above 0");
        let partial: f64 = rope.optional("partial_rotary_factor")?.unwrap_or(1.0);
        ensure!(partial == 1.0, "partial_rotary_factor {partial} is not supported; only 1 is");
        let scaling = match rope_type(field, parameters)?.as_str() {
            "default" => None,
            "linear" => Some(Scaling::Linear { factor: factor(&rope, "linear")? }),
            "llama3" => Some(Scaling::Llama3(Llama3Scaling::of(&rope)?)),
            "yarn" => {
                ensure!(theta > 1.0, "{theta_field} {theta} of rope_type \"yarn\" is not above 1");
                Some(Scaling::Yarn(YarnScaling::of(&rope, fields)?))
            }
            other => bail!(
                "rope_type {other:?} is not supported; supported are \"default\", \"linear\", \"llama3\" and \"yarn\""
            ),
        };
        Ok(Self { theta, scaling })
    }

    /// Angular frequencies of the `head_dim / 2` pairs, in f32 as transformers computes them.
    pub(super) fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        let frequency = |i: usize| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            let frequency = 1.0 / (self.theta as f32).powf(exponent);
            match &self.scaling {
                None => frequency,
                Some(Scaling::Linear { factor }) => frequency / *factor as f32,
                Some(Scaling::Llama3(scaling)) => scaling.apply(frequency),
                Some(Scaling::Yarn(scaling)) => scaling.apply(frequency, scaling.slowed(i, head_dim, self.theta)),
            }
        };
        (0..head_dim / 2).map(frequency).collect()
    }

    /// What cosines and sines are multiplied by.
    fn amplitude(&self) -> f64 {
        match &self.scaling {
            Some(Scaling::Yarn(scaling)) => scaling.attention_factor,
            _ => 1.0,
        }
    }

    /// For each position the cosines, then the sines, of its angles: `[positions, head_dim]`. The angles are products
    /// in f32, as in transformers; what is computed of them is exact.
    pub fn table(&self, positions: Range<usize>, head_dim: usize) -> Vec<f64> {
        table(&self.frequencies(head_dim), self.amplitude(), positions)
    }
}

/// The table of a layer without rotary embedding: every angle is 0.
pub fn table_without_rotation(positions: Range<usize>, head_dim: usize) -> Vec<f64> {
    table(&vec![0.0; head_dim / 2], 1.0, positions)
}

fn table(frequencies: &[f32], amplitude: f64, positions: Range<usize>) -> Vec<f64> {
    let angle = |position: usize, frequency: &f32| f64::from(position as f32 * frequency);
    let row = |position: usize| {
        let cosines = frequencies.iter().map(move |frequency| amplitude * angle(position, frequency).cos());
        cosines.chain(frequencies.iter().map(move |frequency| amplitude * angle(position, frequency).sin()))
    };
    positions.flat_map(row).collect()
}

/// The field that describes the embedding, and its object.
fn parameters(fields: &Fields) -> Result<(&'static str, Map<String, Value>)> {
    let parameters: Option<Map<String, Value>> = fields.optional("rope_parameters")?;
    let scaling: Option<Map<String, Value>> = fields.optional("rope_scaling")?;
    ensure!(
        parameters.is_none() || scaling.is_none(),
        "rope_scaling and rope_parameters are both there; leave out the one that is not the model's"
    );
    let field = if scaling.is_some() { "rope_scaling" } else { "rope_parameters" };
    Ok((field, parameters.or(scaling).unwrap_or_default()))
}

/// `rope_type`, or `type` as it was called.
fn rope_type(field: &str, parameters: &Map<String, Value>) -> Result<String> {
    let rope = Fields(parameters);
    match (rope.optional::<String>("rope_type")?, rope.optional::<String>("type")?) {
        (Some(rope_type), Some(other)) if rope_type != other => {
            bail!("{field} has rope_type {rope_type:?} and type {other:?}; leave out the one that is not the model's")
        }
        (Some(rope_type), _) | (None, Some(rope_type)) => Ok(rope_type),
        (None, None) => {
            let plain = ["rope_theta", "partial_rotary_factor", "rope_type", "type"];
            if let Some((name, value)) = parameters.iter().find(|(name, _)| !plain.contains(&name.as_str())) {
                bail!("{field} has {name} {value} and no rope_type, so that it is not known what it means");
            }
            Ok("default".to_owned())
        }
    }
}

/// How much angles are slowed down.
fn factor(rope: &Fields, rope_type: &str) -> Result<f64> {
    let factor: f64 = rope.required("factor")?;
    ensure!(factor >= 1.0 && factor.is_finite(), "factor {factor} of rope_type {rope_type:?} is below 1");
    Ok(factor)
}

/// The length that a model first saw.
fn original_length(length: f64, rope_type: &str) -> Result<f64> {
    ensure!(
        length >= 1.0 && length.is_finite(),
        "original_max_position_embeddings {length} of rope_type {rope_type:?} is below 1"
    );
    Ok(length)
}

impl YarnScaling {
    fn of(rope: &Fields, fields: &Fields) -> Result<Self> {
        let length = match rope.optional("original_max_position_embeddings")? {
            Some(length) => length,
            None => fields.required("max_position_embeddings")?,
        };
        let factor = factor(rope, "yarn")?;
        let scaling = Self {
            factor,
            attention_factor: Self::attention_factor(rope, factor)?,
            beta_fast: rope.optional("beta_fast")?.unwrap_or(32.0),
            beta_slow: rope.optional("beta_slow")?.unwrap_or(1.0),
            original_max_position_embeddings: original_length(length, "yarn")?,
            truncate: rope.optional("truncate")?.unwrap_or(true),
        };
        let Self { attention_factor, beta_fast: fast, beta_slow: slow, .. } = scaling;
        ensure!(
            0.0 < slow && slow <= fast && fast.is_finite(),
            "beta_slow {slow} and beta_fast {fast} of rope_type \"yarn\" are not in order above 0"
        );
        ensure!(
            attention_factor > 0.0 && attention_factor.is_finite(),
            "attention_factor {attention_factor} of rope_type \"yarn\" is not a number above 0"
        );
        Ok(scaling)
    }

    /// The paper's `0.1 ln(factor) + 1`, or the ratio of two like it, where nothing is given.
    fn attention_factor(rope: &Fields, factor: f64) -> Result<f64> {
        let grown = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        if let Some(attention_factor) = rope.optional("attention_factor")? {
            return Ok(attention_factor);
        }
        let scales = (rope.optional::<f64>("mscale")?, rope.optional::<f64>("mscale_all_dim")?);
        Ok(match scales {
            (Some(one), Some(all)) if one != 0.0 && all != 0.0 => grown(one) / grown(all),
            _ => grown(1.0),
        })
    }

    /// How much of pair `i`'s frequency is slowed down, from 0 to 1. `rotations` over the original length are those of pair
    /// `head_dim ln(length / (2 pi rotations)) / (2 ln(theta))`.
    fn slowed(&self, i: usize, head_dim: usize, theta: f64) -> f32 {
        let dim = head_dim as f64;
        let pair = |rotations: f64| {
            let turns = self.original_max_position_embeddings / (rotations * 2.0 * std::f64::consts::PI);
            dim * turns.ln() / (2.0 * theta.ln())
        };
        let (first, last) = (pair(self.beta_fast), pair(self.beta_slow));
        let (first, last) = if self.truncate { (first.floor(), last.ceil()) } else { (first, last) };
        let (first, mut last) = (first.max(0.0), last.min(dim - 1.0));
        if first == last {
            last += 0.001;
        }
        ((i as f32 - first as f32) / (last - first) as f32).clamp(0.0, 1.0)
    }

    fn apply(&self, frequency: f32, slowed: f32) -> f32 {
        frequency / self.factor as f32 * slowed + frequency * (1.0 - slowed)
    }
}

impl Llama3Scaling {
    fn of(rope: &Fields) -> Result<Self> {
        let length = rope.required("original_max_position_embeddings")?;
        let scaling = Self {
            factor: factor(rope, "llama3")?,
            low_freq_factor: rope.required("low_freq_factor")?,
            high_freq_factor: rope.required("high_freq_factor")?,
            original_max_position_embeddings: original_length(length, "llama3")?,
        };
        let Self { low_freq_factor: low, high_freq_factor: high, .. } = scaling;
        ensure!(
            0.0 < low && low < high && high.is_finite(),
            "low_freq_factor {low} and high_freq_factor {high} of rope_type \"llama3\" are not in order above 0"
        );
        Ok(scaling)
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
