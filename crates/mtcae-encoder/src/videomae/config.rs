//! Sizes of the encoder, and what follows from them.

use serde::{Deserialize, Serialize};

use crate::embedding::Position;
use crate::sizes::Sizes;

/// Everything needed to rebuild a VideoMAE encoder.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct VideoMaeConfig {
    /// Height and width of a frame, in pixels.
    pub image_size: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// Colour channels.
    pub channels: usize,
    /// Height and width of a tube, in pixels.
    pub patch: usize,
    /// Frames of a tube.
    pub tubelet: usize,
    /// Channels D of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Channels inside the MLP.
    pub hidden: usize,
    /// ε of every LayerNorm.
    pub eps: f64,
    /// Whether a LayerNorm follows the last block. Checkpoints fine-tuned with
    /// mean pooling have none.
    pub final_norm: bool,
    /// Where positions come from.
    pub position: Position,
    /// Drop path rate of the last block in training; it grows linearly from 0 at
    /// the first.
    #[serde(default)]
    pub drop_path: f64,
}

impl VideoMaeConfig {
    /// 4 blocks of width 96 on 112×112: a toy, as in the demo.
    pub fn tiny() -> Self {
        Self {
            image_size: 112,
            hidden: 384,
            ..Self::vit(96, 4, 3)
        }
    }

    /// ViT-S: width 384, 12 blocks, 6 heads (`vit_small_patch16_224` of
    /// MCG-NJU/VideoMAE, `modeling_finetune.py`, as are the other three).
    pub fn small() -> Self {
        Self::vit(384, 12, 6)
    }

    /// ViT-B: width 768, 12 blocks, 12 heads.
    pub fn base() -> Self {
        Self::vit(768, 12, 12)
    }

    /// ViT-L: width 1024, 24 blocks, 16 heads. The paper's encoder.
    pub fn large() -> Self {
        Self::vit(1024, 24, 16)
    }

    /// ViT-H: width 1280, 32 blocks, 16 heads.
    pub fn huge() -> Self {
        Self::vit(1280, 32, 16)
    }

    fn vit(width: usize, depth: usize, heads: usize) -> Self {
        Self {
            image_size: 224,
            frames: 16,
            channels: 3,
            patch: 16,
            tubelet: 2,
            width,
            depth,
            heads,
            hidden: 4 * width,
            eps: 1e-6,
            final_norm: true,
            position: Position::SinCos,
            drop_path: 0.0,
        }
    }

    /// Heads of the published sizes, for checkpoints that do not say.
    pub(crate) fn known_heads(width: usize) -> Option<usize> {
        [Self::small(), Self::base(), Self::large(), Self::huge()]
            .into_iter()
            .find(|c| c.width == width)
            .map(|c| c.heads)
    }

    /// Tokens N of a clip: (T/t)·(H/p)·(W/p); 1568 for the presets.
    pub fn tokens(&self) -> usize {
        self.sizes().tokens()
    }

    /// Values of one tube: C·t·p·p; 1536 for the presets.
    pub fn tube_len(&self) -> usize {
        self.sizes().tube_len()
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            image_size: self.image_size,
            frames: self.frames,
            channels: self.channels,
            patch: self.patch,
            tubelet: self.tubelet,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            hidden: self.hidden,
            eps: self.eps,
            drop_path: self.drop_path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::{Config, EncoderConfig};

    #[test]
    fn presets_are_valid_and_have_the_papers_tokens() {
        for config in [
            VideoMaeConfig::small(),
            VideoMaeConfig::base(),
            VideoMaeConfig::large(),
            VideoMaeConfig::huge(),
        ] {
            config.validate().expect("valid");
            assert_eq!((config.tokens(), config.tube_len()), (1568, 1536));
            assert_eq!(
                VideoMaeConfig::known_heads(config.width),
                Some(config.heads)
            );
        }
        let count = |c: VideoMaeConfig| -> usize {
            Config::from(c)
                .tensors()
                .iter()
                .map(|(_, s)| s.iter().product::<usize>())
                .sum()
        };
        // Published as 22M, 87M, 304M and 633M.
        let millions = [
            VideoMaeConfig::small(),
            VideoMaeConfig::base(),
            VideoMaeConfig::large(),
            VideoMaeConfig::huge(),
        ]
        .map(|c| count(c) as f64 / 1e6);
        for (got, want) in millions.iter().zip([21.9, 86.2, 303.9, 632.0]) {
            assert!((got - want).abs() < 0.5, "{millions:?}");
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        type Change = fn(&mut VideoMaeConfig);
        let wrong: [(&str, Change); 8] = [
            ("image_size", |c| c.image_size = 225),
            ("frames", |c| c.frames = 15),
            ("heads", |c| c.heads = 7),
            ("width", |c| c.width = usize::MAX),
            ("depth", |c| c.depth = 0),
            ("eps", |c| c.eps = f64::NAN),
            ("eps", |c| c.eps = 1e-50),
            ("drop_path", |c| c.drop_path = 1.0),
        ];
        for (field, change) in wrong {
            let mut config = VideoMaeConfig::base();
            change(&mut config);
            let error = config.validate().expect_err(field).to_string();
            assert!(
                error.contains(&format!("encoder config: {field}: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn json_round_trips_and_unknown_fields_are_refused() {
        let config = VideoMaeConfig::large();
        let json = serde_json::to_string(&config).expect("written");
        assert!(json.contains("\"position\":\"sin-cos\""), "{json}");
        assert_eq!(
            serde_json::from_str::<VideoMaeConfig>(&json).expect("read"),
            config
        );
        let error = serde_json::from_str::<VideoMaeConfig>(&json.replace("depth", "dephts"))
            .expect_err("misspelt")
            .to_string();
        assert!(error.contains("dephts"), "{error}");
    }
}
