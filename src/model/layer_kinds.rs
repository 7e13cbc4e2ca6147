//! What a model's layers differ in: which rotary embedding they have, and whether they see all of a sequence or a window of it.

use anyhow::{Context, Result, bail, ensure};

use super::fields::Fields;
use super::rope::{FULL_ATTENTION, Rope, SLIDING_ATTENTION};

/// What a layer's attention has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerKind {
    /// Which of [`Layers::ropes`] turns its queries and keys; none in a layer without rotary embedding.
    pub rope: Option<usize>,
    /// Whether a token sees no more than [`Layers::sliding_window`].
    pub slides: bool,
}

/// The kinds of a model's layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Layers {
    pub ropes: Vec<Rope>,
    /// The most tokens that one sees in layers that slide, itself included; none where no layer slides.
    pub sliding_window: Option<usize>,
    /// One a layer.
    pub kinds: Vec<LayerKind>,
}

/// Which layers of a family slide a window where `layer_types` is absent, and where the window is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sliding {
    /// None can.
    Never,
    /// All of them, over 4096 tokens where the configuration is silent (Mistral).
    Everywhere,
    /// Those from `max_window_layers` on, where `use_sliding_window` says so (Qwen).
    FromMaxWindowLayers,
    /// Those without rotary embedding, which every fourth is, where `use_sliding_window` says so (SmolLM3).
    WithoutRope,
    /// All but every sixth, which has a rotary embedding of its own (Gemma 3).
    AllButEverySixth,
}

impl Layers {
    /// Of `count` layers, as the configuration of a family describes them.
    pub(super) fn of(fields: &Fields, sliding: Sliding, default_theta: f64, count: usize) -> Result<Self> {
        let ropes = match sliding {
            Sliding::AllButEverySixth => Rope::of_gemma3(fields)?.into(),
            _ => vec![Rope::of(fields, default_theta)?],
        };
        let window = window(fields, sliding)?;
        let rotates = rotates(fields, sliding, count)?;
        let slides = match layer_types(fields, count)? {
            Some(types) => types.iter().map(|layer_type| slides(layer_type, window)).collect::<Result<Vec<_>>>()?,
            None => by_family(fields, sliding, window.is_some(), &rotates)?,
        };
        let rope_of = |slides: bool| if slides { ropes.len() - 1 } else { 0 };
        let kind = |(&rotates, &slides): (&bool, &bool)| LayerKind { rope: rotates.then_some(rope_of(slides)), slides };
        let kinds: Vec<LayerKind> = rotates.iter().zip(&slides).map(kind).collect();
        let sliding_window = window.filter(|_| slides.contains(&true));
        Ok(Self { ropes, sliding_window, kinds })
    }

    /// The window of a layer that slides one.
    pub fn window_of(&self, kind: LayerKind) -> Option<usize> {
        self.sliding_window.filter(|_| kind.slides)
    }
}

/// The window that is in use.
fn window(fields: &Fields, sliding: Sliding) -> Result<Option<usize>> {
    const WHERE_SILENT: usize = 4096;
    let in_use = match sliding {
        Sliding::Never => false,
        Sliding::Everywhere | Sliding::AllButEverySixth => true,
        Sliding::FromMaxWindowLayers | Sliding::WithoutRope => fields.optional("use_sliding_window")?.unwrap_or(false),
    };
    if !in_use {
        return Ok(None);
    }
    let silent = !fields.0.contains_key("sliding_window") && sliding != Sliding::WithoutRope;
    let window = if silent { Some(WHERE_SILENT) } else { fields.optional("sliding_window")? };
    ensure!(window != Some(0), "sliding_window is 0");
    Ok(window)
}

/// Whether each layer has a rotary embedding.
fn rotates(fields: &Fields, sliding: Sliding, count: usize) -> Result<Vec<bool>> {
    if sliding != Sliding::WithoutRope {
        return Ok(vec![true; count]);
    }
    if let Some(layers) = fields.optional::<Vec<u32>>("no_rope_layers")? {
        ensure!(layers.len() >= count, "no_rope_layers has {} entries for {count} layers", layers.len());
        return Ok(layers[..count].iter().map(|&rotates| rotates != 0).collect());
    }
    let interval: usize = fields.optional("no_rope_layer_interval")?.unwrap_or(4);
    ensure!(interval > 0, "no_rope_layer_interval is 0");
    Ok((1..=count).map(|layer| !layer.is_multiple_of(interval)).collect())
}

fn layer_types(fields: &Fields, count: usize) -> Result<Option<Vec<String>>> {
    let types: Option<Vec<String>> = fields.optional("layer_types")?;
    if let Some(types) = &types {
        ensure!(types.len() == count, "layer_types has {} entries for {count} layers", types.len());
    }
    Ok(types)
}

/// Whether a layer of this type slides the window.
fn slides(layer_type: &str, window: Option<usize>) -> Result<bool> {
    match layer_type {
        FULL_ATTENTION => Ok(false),
        SLIDING_ATTENTION => {
            window.context("layer_types contains \"sliding_attention\", and no sliding_window is in use")?;
            Ok(true)
        }
        other => bail!(
            "layer_types contains {other:?}, which is not supported; supported are {FULL_ATTENTION:?} and \
             {SLIDING_ATTENTION:?}"
        ),
    }
}

/// Which layer of Gemma 3 sees all: every so many. The second is how transformers 5 writes the first.
const PATTERN: &str = "sliding_window_pattern";
const WRITTEN_PATTERN: &str = "_sliding_window_pattern";

/// Whether each layer slides, where the file does not say.
fn by_family(fields: &Fields, sliding: Sliding, has_window: bool, rotates: &[bool]) -> Result<Vec<bool>> {
    let count = rotates.len();
    if !has_window {
        return Ok(vec![false; count]);
    }
    Ok(match sliding {
        Sliding::Never => vec![false; count],
        Sliding::Everywhere => vec![true; count],
        Sliding::FromMaxWindowLayers => {
            let first = fields.optional("max_window_layers")?.unwrap_or(28);
            (0..count).map(|layer| layer >= first).collect()
        }
        Sliding::WithoutRope => rotates.iter().map(|rotates| !rotates).collect(),
        Sliding::AllButEverySixth => {
            let name = if fields.0.contains_key(PATTERN) { PATTERN } else { WRITTEN_PATTERN };
            let pattern: usize = fields.optional(name)?.unwrap_or(6);
            ensure!(pattern > 0, "{name} is 0");
            (1..=count).map(|layer| !layer.is_multiple_of(pattern)).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn layers(sliding: Sliding, count: usize, json: Value) -> Result<Layers> {
        let Value::Object(json) = json else { unreachable!() };
        Layers::of(&Fields(&json), sliding, 10_000.0, count)
    }

    fn sliding(layers: &Layers) -> Vec<bool> {
        layers.kinds.iter().map(|kind| kind.slides).collect()
    }

    /// By transformers 5.
    #[test]
    fn families_slide_where_theirs_do() {
        let mistral = layers(Sliding::Everywhere, 2, serde_json::json!({"sliding_window": 64})).unwrap();
        assert_eq!((mistral.sliding_window, sliding(&mistral)), (Some(64), vec![true; 2]));
        let silent = layers(Sliding::Everywhere, 2, serde_json::json!({})).unwrap();
        assert_eq!(silent.sliding_window, Some(4096));
        let none = layers(Sliding::Everywhere, 2, serde_json::json!({"sliding_window": null})).unwrap();
        assert_eq!((none.sliding_window, sliding(&none)), (None, vec![false; 2]));

        let qwen = serde_json::json!({"use_sliding_window": true, "sliding_window": 64, "max_window_layers": 1});
        assert_eq!(sliding(&layers(Sliding::FromMaxWindowLayers, 3, qwen).unwrap()), [false, true, true]);
        let unused = serde_json::json!({"use_sliding_window": false, "sliding_window": 64, "max_window_layers": 1});
        assert_eq!(layers(Sliding::FromMaxWindowLayers, 3, unused).unwrap().sliding_window, None);
        let deep = serde_json::json!({"use_sliding_window": true, "sliding_window": 64});
        assert_eq!(layers(Sliding::FromMaxWindowLayers, 3, deep).unwrap().sliding_window, None);

        let smollm3 = layers(Sliding::WithoutRope, 5, serde_json::json!({"sliding_window": 64})).unwrap();
        let ropes: Vec<_> = smollm3.kinds.iter().map(|kind| kind.rope).collect();
        assert_eq!((ropes, smollm3.sliding_window), (vec![Some(0), Some(0), Some(0), None, Some(0)], None));
        let own = serde_json::json!({"no_rope_layers": [0, 1], "use_sliding_window": true, "sliding_window": 64});
        let own = layers(Sliding::WithoutRope, 2, own).unwrap();
        assert_eq!((own.kinds[0], own.kinds[1].rope), (LayerKind { rope: None, slides: true }, Some(0)));

        let gemma3 = layers(Sliding::AllButEverySixth, 7, serde_json::json!({"sliding_window": 512})).unwrap();
        assert_eq!(sliding(&gemma3), [true, true, true, true, true, false, true]);
        assert_eq!((gemma3.kinds[5].rope, gemma3.kinds[6].rope), (Some(0), Some(1)));
        assert_eq!((gemma3.ropes[0].theta, gemma3.ropes[1].theta), (1e6, 1e4));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refusal = |family, json| format!("{:#}", layers(family, 2, json).unwrap_err());
        let types = |types: [&str; 2]| serde_json::json!({"layer_types": types, "sliding_window": 64});
        assert_eq!(
            refusal(Sliding::Never, types([FULL_ATTENTION, SLIDING_ATTENTION])),
            "layer_types contains \"sliding_attention\", and no sliding_window is in use"
        );
        assert_eq!(
            refusal(Sliding::Everywhere, types([FULL_ATTENTION, "chunked_attention"])),
            "layer_types contains \"chunked_attention\", which is not supported; supported are \"full_attention\" and \
             \"sliding_attention\""
        );
        assert_eq!(
            refusal(Sliding::Everywhere, serde_json::json!({"layer_types": [FULL_ATTENTION]})),
            "layer_types has 1 entries for 2 layers"
        );
        assert_eq!(refusal(Sliding::Everywhere, serde_json::json!({"sliding_window": 0})), "sliding_window is 0");
        assert_eq!(
            refusal(Sliding::WithoutRope, serde_json::json!({"no_rope_layers": [1]})),
            "no_rope_layers has 1 entries for 2 layers"
        );
        assert_eq!(
            refusal(Sliding::WithoutRope, serde_json::json!({"no_rope_layer_interval": 0})),
            "no_rope_layer_interval is 0"
        );
        assert_eq!(
            refusal(Sliding::AllButEverySixth, serde_json::json!({"_sliding_window_pattern": 0})),
            "_sliding_window_pattern is 0"
        );
        assert_eq!(
            refusal(Sliding::AllButEverySixth, serde_json::json!({"sliding_window_pattern": "LLG"})),
            "sliding_window_pattern \"LLG\" is not what this field holds: invalid type: string \"LLG\", expected usize"
        );
    }
}
