//! Classifiers that others published on their encoders.

use mtcae_core::{Resize, Sampling};
use mtcae_nn::Pool;
use mtcae_nn::weights::{Source, shown};
use serde_json::Value;

use crate::error::Error;
use crate::json::Fields;
use crate::seam::Config;
use crate::sizes::fault;

/// Two clips of 16 frames, the first and the last of every fourth frame, of the whole
/// picture: as MAE-DFER and SVFAP are tested on crops of faces (`kinetics.py` and the
/// scripts of both).
pub(crate) const TWO_CLIPS: Protocol = Protocol {
    sampling: Sampling::MultiClip {
        clips: 2,
        stride: 4,
    },
    resize: Resize::Squash,
};

/// A linear layer on the pooled features of a published encoder: what its tensors and its
/// `config.json` say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// The encoder, with the features that are pooled.
    pub encoder: Config,
    /// How F becomes one row.
    pub pool: Pool,
    /// ε of the LayerNorm of that row, where there is one.
    pub norm: Option<f64>,
    /// Outputs of the linear layer.
    pub outputs: usize,
    /// Names of the classes; `None` where nothing says them.
    pub classes: Option<Vec<String>>,
    /// Whether it was trained on crops of faces.
    pub of_faces: bool,
    /// How its publishers test it, where it is known.
    pub protocol: Option<Protocol>,
    /// What the names of the linear layer's tensors in the file begin with.
    pub(crate) layer: String,
    /// Those of the LayerNorm's.
    pub(crate) norm_layer: String,
}

/// What a classifier is shown of a video; its probabilities are averaged over views.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protocol {
    /// Which frames.
    pub sampling: Sampling,
    /// What part of them.
    pub resize: Resize,
}

impl Classifier {
    /// The name in the file of a tensor of the head: `norm.weight`, `norm.bias`,
    /// `fc.weight`, `fc.bias`; `None` for others.
    pub fn tensor(&self, name: &str) -> Option<String> {
        match name.split_once('.')? {
            ("norm", part) => Some(format!("{}.{part}", self.norm_layer)),
            ("fc", part) => Some(format!("{}.{part}", self.layer)),
            _ => None,
        }
    }

    /// The classifier whose linear layer is `{layer}.weight` and `{layer}.bias`, over the
    /// LayerNorm `{norm_layer}` where the file has one; `None` where it has no such layer.
    pub(crate) fn find(
        source: &dyn Source,
        encoder: &Config,
        layer: String,
        norm_layer: String,
        eps: f64,
    ) -> Result<Option<Self>, Error> {
        let weight = format!("{layer}.weight");
        let Some(shape) = source.shape(&weight) else {
            return Ok(None);
        };
        let width = encoder.output().width;
        let outputs = match shape[..] {
            [outputs, inputs] if inputs == width && outputs > 0 => outputs,
            _ => {
                let reason =
                    format!("has shape {shape:?}, should be (classes, {width}): a row a class");
                return Err(fault(&source.origin(), &weight, reason));
            }
        };
        let norm = source.shape(&format!("{norm_layer}.weight")).map(|_| eps);
        Ok(Some(Self {
            encoder: encoder.clone(),
            pool: Pool::Mean,
            norm,
            outputs,
            classes: None,
            of_faces: false,
            protocol: None,
            layer,
            norm_layer,
        }))
    }

    /// The names in `id2label` of a Hugging Face config. Names that its library gave in
    /// want of others (`LABEL_0` and so on) are none.
    pub(crate) fn name_classes(&mut self, fields: &Fields) -> Result<(), Error> {
        const FIELD: &str = "id2label";
        let Some(labels) = fields.get(FIELD) else {
            return Ok(());
        };
        let count = labels.as_object().map(serde_json::Map::len);
        let outputs = self.outputs;
        if count != Some(outputs) {
            let found = count.map_or("no object".to_owned(), |n| format!("{n} names"));
            let reason = format!(
                "{found}, but {}.weight has {outputs} rows, one a class",
                self.layer
            );
            return Err(fields.fault(FIELD, reason));
        }
        let names = (0..outputs).map(|i| {
            let name = labels.get(i.to_string()).and_then(Value::as_str);
            let name = name.map(str::trim).filter(|name| !name.is_empty());
            name.map(shown)
                .ok_or_else(|| fields.fault(FIELD, format!("no name of class {i}")))
        });
        let names: Vec<String> = names.collect::<Result<_, _>>()?;
        let default = |(i, name): (usize, &String)| *name == format!("LABEL_{i}");
        if !names.iter().enumerate().all(default) {
            self.classes = Some(names);
        }
        Ok(())
    }
}
