//! How a checkpoint wants its pixels.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::json::Fields;

/// What is done to frames before they are cut into tubes: resized, cropped,
/// divided by 255, then (x − mean)/std a channel, in the order R, G, B.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Mean of each channel, in units of the full range; zeros where none is taken off.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, in the same units; ones where none divides.
    pub std: [f32; 3],
    /// The size frames are brought to before cropping, or `None` where the source
    /// does not say.
    pub resize: Option<Resize>,
    /// Height and width of the centre crop, in pixels, or `None` for no crop.
    pub crop: Option<(usize, usize)>,
    /// The filter that frames are resized by, as Pillow numbers them (2 is bilinear), or
    /// `None` where the source does not say.
    #[serde(default)]
    pub resample: Option<u64>,
}

/// The size that frames are resized to.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// The shorter edge gets this many pixels, the aspect is kept.
    ShortestEdge(usize),
    /// Height and width in pixels, the aspect is not kept.
    Exact(usize, usize),
}

impl Preprocessing {
    /// ImageNet's mean and deviation, as the original VideoMAE code has them
    /// (`kinetics.py` and `IMAGENET_DEFAULT_MEAN` of its `run_*.py`).
    pub fn imagenet() -> Self {
        Self {
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            resize: None,
            crop: None,
            resample: None,
        }
    }

    /// Pixels divided by 255 and nothing else, as MARLIN has them.
    pub fn plain() -> Self {
        Self {
            mean: [0.0; 3],
            std: [1.0; 3],
            resize: None,
            crop: None,
            resample: None,
        }
    }

    /// Reads the text of a Hugging Face `preprocessor_config.json`, of feature
    /// extractors and of image processors.
    ///
    /// # Errors
    /// [`Error::Field`] names a field that is missing, wrong or asks for something
    /// that is not done here.
    pub fn from_hugging_face(json: &str) -> Result<Self, Error> {
        Self::from_fields(&Fields::parse(json, "preprocessor_config.json")?)
    }

    /// [`Preprocessing::from_hugging_face`] of a file.
    ///
    /// # Errors
    /// As there, with the file's path; [`Error::File`] when it cannot be read.
    pub fn read_hugging_face(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::from_fields(&Fields::read(path.as_ref())?)
    }

    fn from_fields(fields: &Fields) -> Result<Self, Error> {
        // Feature extractors always divided by 255 and had no field for it.
        if !fields.flag_or("do_rescale", true)? {
            return Err(fields.fault("do_rescale", "false is not supported"));
        }
        if fields.get("rescale_factor").is_some() {
            let factor = fields.number("rescale_factor")?;
            if (factor * 255.0 - 1.0).abs() > 1e-6 {
                return Err(fields.fault("rescale_factor", format!("{factor} is not 1/255")));
            }
        }
        let mut this = Self::plain();
        if fields.flag_or("do_normalize", true)? {
            this.mean = fields.colours("image_mean")?;
            this.std = fields.colours("image_std")?;
            if this.std.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
                return Err(fields.fault("image_std", "a deviation is not above 0"));
            }
        }
        this.resample = fields.get("resample").and_then(Value::as_u64);
        if fields.flag_or("do_resize", true)? {
            this.resize = fields
                .get("size")
                .map(|size| resize(size).ok_or_else(|| wrong_size(fields, "size")))
                .transpose()?;
        }
        if fields.flag_or("do_center_crop", true)? {
            this.crop = fields
                .get("crop_size")
                .map(|size| crop(size).ok_or_else(|| wrong_size(fields, "crop_size")))
                .transpose()?;
        }
        Ok(this)
    }
}

fn pixels(value: &Value) -> Option<usize> {
    let n = value.as_u64().filter(|n| (1..=1 << 14).contains(n))?;
    n.try_into().ok()
}

fn resize(size: &Value) -> Option<Resize> {
    match size.get("shortest_edge").or(Some(size)).and_then(pixels) {
        Some(edge) => Some(Resize::ShortestEdge(edge)),
        None => both(size).map(|(height, width)| Resize::Exact(height, width)),
    }
}

fn crop(size: &Value) -> Option<(usize, usize)> {
    pixels(size).map(|edge| (edge, edge)).or_else(|| both(size))
}

fn both(value: &Value) -> Option<(usize, usize)> {
    Some((pixels(value.get("height")?)?, pixels(value.get("width")?)?))
}

fn wrong_size(fields: &Fields, field: &str) -> Error {
    fields.fault(
        field,
        "should be a number of pixels, a shortest_edge, or a height and a width",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_files_are_read() {
        let old = r#"{"crop_size": 224, "do_normalize": true, "size": 256,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
        let new = r#"{"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256},
            "rescale_factor": 0.00392156862745098, "do_rescale": true,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
        let want = Preprocessing {
            mean: [0.5; 3],
            std: [0.5; 3],
            resize: Some(Resize::ShortestEdge(256)),
            crop: Some((224, 224)),
            resample: None,
        };
        for text in [old, new] {
            assert_eq!(Preprocessing::from_hugging_face(text).expect("read"), want);
        }
        let none = r#"{"do_normalize": false, "do_resize": false, "do_center_crop": false}"#;
        let read = Preprocessing::from_hugging_face(none).expect("read");
        assert_eq!(read, Preprocessing::plain());
    }

    #[test]
    fn wrong_fields_are_named() {
        for (text, field) in [
            (r#"{"do_normalize": true}"#, "image_mean"),
            (
                r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0, 0.5]}"#,
                "image_std",
            ),
            (r#"{"do_normalize": false, "size": {"height": 3}}"#, "size"),
            (
                r#"{"do_normalize": false, "crop_size": [3, 3]}"#,
                "crop_size",
            ),
            (r#"{"do_rescale": false}"#, "do_rescale"),
            (r#"{"rescale_factor": 1}"#, "rescale_factor"),
        ] {
            let error = Preprocessing::from_hugging_face(text).expect_err(field);
            let want = format!("preprocessor_config.json: {field}: ");
            assert!(error.to_string().starts_with(&want), "{error}");
        }
    }
}
