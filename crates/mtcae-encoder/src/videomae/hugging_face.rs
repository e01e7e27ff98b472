//! `config.json` as Hugging Face folders hold it: transformers' VideoMAE and
//! MARLIN's remote code.

use std::path::Path;

use super::config::VideoMaeConfig;
use crate::embedding::Position;
use crate::error::Error;
use crate::json::Fields;

impl VideoMaeConfig {
    /// Reads the text of a Hugging Face `config.json` (VideoMAE or MARLIN).
    ///
    /// Fields that do not concern the encoder are passed over. ε is taken as it
    /// stands: published files say 1e-12 where the original code has 1e-6.
    ///
    /// # Errors
    /// [`Error::Field`] names a field that is missing, wrong, or asks for something
    /// that this encoder is not (another activation, no biases of queries).
    pub fn from_hugging_face(json: &str) -> Result<Self, Error> {
        Self::from_fields(&Fields::parse(json, "config.json")?)
    }

    /// [`VideoMaeConfig::from_hugging_face`] of a file.
    ///
    /// # Errors
    /// As there, with the file's path; [`Error::File`] when it cannot be read.
    pub fn read_hugging_face(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::from_fields(&Fields::read(path.as_ref())?)
    }

    pub(crate) fn from_fields(fields: &Fields) -> Result<Self, Error> {
        let config = match fields.text("model_type") {
            Some("videomae") => videomae(fields),
            Some("marlin") => marlin(fields),
            Some(other) => {
                let reason = format!("{other:?} is neither \"videomae\" nor \"marlin\"");
                Err(fields.fault("model_type", reason))
            }
            None => Err(fields.fault(
                "model_type",
                "missing; should be \"videomae\" or \"marlin\"",
            )),
        }?;
        config.sizes().check(fields.origin())?;
        Ok(config)
    }
}

/// `configuration_videomae.py` of huggingface/transformers.
fn videomae(fields: &Fields) -> Result<VideoMaeConfig, Error> {
    if let Some(activation) = fields.get("hidden_act")
        && activation != "gelu"
    {
        let reason = format!("{activation} is not supported, only \"gelu\" (its erf form)");
        return Err(fields.fault("hidden_act", reason));
    }
    // Renamed in version 5.
    for field in ["qkv_bias", "qv_bias"] {
        needs_biases(fields, field)?;
    }
    Ok(VideoMaeConfig {
        image_size: fields.size("image_size")?,
        frames: fields.size("num_frames")?,
        channels: fields.size("num_channels")?,
        patch: fields.size("patch_size")?,
        tubelet: fields.size("tubelet_size")?,
        width: fields.size("hidden_size")?,
        depth: fields.size("num_hidden_layers")?,
        heads: fields.size("num_attention_heads")?,
        hidden: fields.size("intermediate_size")?,
        eps: fields.number("layer_norm_eps")?,
        final_norm: !fields.flag("use_mean_pooling")?,
        position: Position::SinCos,
        drop_path: 0.0,
    })
}

/// ε of MARLIN's LayerNorms: PyTorch's default, which its code leaves as it is.
pub(crate) const MARLIN_EPS: f64 = 1e-5;

/// The configuration of ControlNet/MARLIN's Hugging Face port.
fn marlin(fields: &Fields) -> Result<VideoMaeConfig, Error> {
    needs_biases(fields, "qkv_bias")?;
    if let Some(norm) = fields.get("norm_layer")
        && norm != "LayerNorm"
    {
        return Err(fields.fault(
            "norm_layer",
            format!("{norm} is not supported, only \"LayerNorm\""),
        ));
    }
    // Another scale of the logits, and LayerScale.
    if fields.get("qk_scale").is_some() {
        return Err(fields.fault("qk_scale", "only null is supported"));
    }
    if fields.get("init_values").is_some() && fields.number("init_values")? != 0.0 {
        return Err(fields.fault("init_values", "only 0 is supported (no layer scale)"));
    }
    let width = fields.size("encoder_embed_dim")?;
    let ratio = fields.number("mlp_ratio")?;
    if !(ratio > 0.0 && ratio <= 64.0) {
        return Err(fields.fault("mlp_ratio", format!("{ratio} is not within 0 and 64")));
    }
    Ok(VideoMaeConfig {
        image_size: fields.size("img_size")?,
        frames: fields.size("n_frames")?,
        channels: 3,
        patch: fields.size("patch_size")?,
        tubelet: fields.size("tubelet_size")?,
        width,
        depth: fields.size("encoder_depth")?,
        heads: fields.size("encoder_num_heads")?,
        hidden: (width as f64 * ratio) as usize,
        eps: MARLIN_EPS,
        final_norm: true,
        position: Position::Stored,
        drop_path: 0.0,
    })
}

fn needs_biases(fields: &Fields, field: &str) -> Result<(), Error> {
    match fields.flag_or(field, true)? {
        true => Ok(()),
        false => Err(fields.fault(
            field,
            "false is not supported: queries and values have biases",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: &str = r#"{"model_type": "videomae", "hidden_act": "gelu", "hidden_size": 1024,
        "image_size": 224, "intermediate_size": 4096, "layer_norm_eps": 1e-12,
        "num_attention_heads": 16, "num_channels": 3, "num_frames": 16,
        "num_hidden_layers": 24, "patch_size": 16, "qkv_bias": true, "tubelet_size": 2,
        "use_mean_pooling": true, "norm_pix_loss": false}"#;

    #[test]
    fn the_published_large_model_is_the_large_preset() {
        let want = VideoMaeConfig {
            eps: 1e-12,
            final_norm: false,
            ..VideoMaeConfig::large()
        };
        assert_eq!(
            VideoMaeConfig::from_hugging_face(LARGE).expect("read"),
            want
        );
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (from, to, field) in [
            (
                "\"hidden_size\": 1024",
                "\"hidden_size\": \"large\"",
                "hidden_size",
            ),
            (
                "\"hidden_size\": 1024",
                "\"hidden_size\": 1e30",
                "hidden_size",
            ),
            ("\"hidden_size\": 1024,", "", "hidden_size"),
            (
                "\"image_size\": 224",
                "\"image_size\": [224, 160]",
                "image_size",
            ),
            ("\"image_size\": 224", "\"image_size\": -224", "image_size"),
            ("\"gelu\"", "\"gelu_new\"", "hidden_act"),
            ("\"qkv_bias\": true", "\"qv_bias\": false", "qv_bias"),
            ("\"use_mean_pooling\": true,", "", "use_mean_pooling"),
            ("\"videomae\"", "\"vit\"", "model_type"),
            ("16, \"num_channels\"", "15, \"num_channels\"", "heads"),
            ("1e-12", "0", "eps"),
        ] {
            assert!(LARGE.contains(from), "{from}");
            let error = VideoMaeConfig::from_hugging_face(&LARGE.replace(from, to))
                .expect_err(to)
                .to_string();
            assert!(
                error.starts_with(&format!("config.json: {field}: ")),
                "{error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
        let error = VideoMaeConfig::from_hugging_face("[1, 2").expect_err("no JSON");
        assert!(error.to_string().starts_with("config.json: "), "{error}");
    }
}
