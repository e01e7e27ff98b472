//! Families of encoders: what is read, and what is refused in one line.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use mtcae_model::decoder::Structure;
use mtcae_model::encoder::{
    Encoder, EncoderConfig, Error as EncoderError, Families, Group, Input, Layout, Output,
    VideoMaeConfig,
};
use mtcae_model::{Checkpoint, Config, Mtcae, Precision, checkpoint};
use mtcae_nn::{Linear, ParamStore, Pass, VarBuilder, linear};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An encoder of frames: one token a frame, a layer of its first row of pixels.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    frames: usize,
    size: usize,
}

#[derive(Debug)]
struct Built(Rows, Linear);

impl EncoderConfig for Rows {
    fn family(&self) -> &'static str {
        "rows"
    }

    fn fields(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn validate(&self) -> Result<(), EncoderError> {
        match self.size {
            1..=64 => Ok(()),
            size => Err(EncoderError::Field {
                origin: "encoder config".to_owned(),
                field: "size".to_owned(),
                reason: format!("{size} is not within 1 to 64"),
            }),
        }
    }

    fn input(&self) -> Input {
        Input {
            frames: self.frames,
            size: self.size,
            channels: 3,
            layout: Layout::Frames,
        }
    }

    fn output(&self) -> Output {
        Output {
            tokens: self.frames,
            width: 24,
            grid: None,
        }
    }

    fn depth(&self) -> usize {
        1
    }

    fn groups(&self) -> Vec<Group> {
        let tensors = [("row.weight", vec![24, self.size]), ("row.bias", vec![24])];
        vec![Group::new("row", 1, tensors)]
    }

    fn flops(&self) -> f64 {
        48.0 * (self.frames * self.size) as f64
    }

    fn activations(&self) -> usize {
        24 * self.frames
    }

    fn build(&self, vb: VarBuilder<'_>) -> Result<Arc<dyn Encoder>, EncoderError> {
        let layer = linear(self.size, 24, vb.pp("row"))?;
        Ok(Arc::new(Built(self.clone(), layer)))
    }
}

impl Encoder for Built {
    fn config(&self) -> &dyn EncoderConfig {
        &self.0
    }

    fn run(&self, frames: &Tensor, _: &mut Pass) -> Result<Tensor, EncoderError> {
        self.0.input().check(frames)?;
        let row = frames
            .narrow(2, 0, 1)?
            .narrow(3, 0, 1)?
            .squeeze(3)?
            .squeeze(2)?;
        Ok(candle_core::Module::forward(&self.1, &row)?)
    }
}

fn small(encoder: impl Into<mtcae_model::encoder::Config>) -> Config {
    let mut config = Config::new(
        encoder,
        Structure::Cascade,
        vec!["calm".to_owned(), "glad".to_owned()],
    );
    let decoder = &mut config.decoder;
    (
        decoder.width,
        decoder.depth,
        decoder.heads,
        decoder.head_dim,
    ) = (12, 1, 2, 5);
    config
}

fn videomae() -> VideoMaeConfig {
    VideoMaeConfig {
        image_size: 32,
        frames: 4,
        width: 24,
        depth: 1,
        heads: 2,
        hidden: 32,
        ..VideoMaeConfig::small()
    }
}

fn saved(config: &Config) -> tempfile::TempDir {
    let (folder, store) = (tempfile::tempdir().expect("a folder"), ParamStore::new(3));
    Mtcae::new(config, store.builder(&Device::Cpu)).expect("built");
    let vars = store.vars();
    let tensors = vars.iter().map(|(n, v)| (n.as_str(), v.as_tensor()));
    checkpoint::save(folder.path(), config, tensors).expect("saved");
    folder
}

fn edited(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join(checkpoint::CONFIG);
    let text = std::fs::read_to_string(&path).expect("read");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    edit(&mut json);
    std::fs::write(path, json.to_string()).expect("written");
}

fn refused(folder: &Path, families: &Families) -> String {
    let error = Checkpoint::open_with(folder, families).map(drop);
    let said = error.expect_err("refused").to_string();
    assert!(!said.contains('\n') && said.len() < 1500, "{said}");
    said
}

#[test]
fn a_family_of_another_crate_is_saved_and_read_by_its_factory() {
    let config = small(Rows { frames: 4, size: 8 });
    let folder = saved(&config);
    let known = Families::default();
    let said = refused(folder.path(), &known);
    assert!(
        said.contains("config.json: encoder.family: unknown family \"rows\"")
            && said.contains("videomae"),
        "{said}"
    );
    let families = known.with::<Rows>("rows");
    let checkpoint = Checkpoint::open_with(folder.path(), &families).expect("opened");
    assert_eq!(checkpoint.config(), &config);
    let model = checkpoint.model(&Device::Cpu).expect("a model");
    let engine = checkpoint.engine(&Device::Cpu, Precision::F32);
    let engine = engine.expect("an engine");
    let clips = Tensor::randn(0f32, 1.0, (2, 4, 3, 8, 8), &Device::Cpu).expect("clips");
    let want = model.forward(&clips).expect("outputs").logits;
    let got = engine.run(&clips, &mut Pass::inference()).expect("outputs");
    // As for the plans of the families here: f32 in another order of sums.
    assert!(mtcae_testing::deviation(&got.logits, &want) <= 1e-5);
    // Such an encoder is computed as it is, which on the CPU is in f32.
    if mtcae_nn::plan::format(Precision::Bf16).is_ok() {
        let refused = checkpoint.engine(&Device::Cpu, Precision::Bf16).map(drop);
        let said = refused.expect_err("no plan").to_string();
        assert!(
            said.contains("family rows") && said.contains("bf16"),
            "{said}"
        );
    }
    edited(folder.path(), |json| {
        json["encoder"]["size"] = json!(65);
    });
    let said = refused(folder.path(), &families);
    assert!(said.contains("size: 65 is not within"), "{said}");
}

#[test]
fn another_familys_config_is_refused_by_the_tensors_names() {
    let families = Families::default().with::<Rows>("rows");
    let (rows, tubes) = (
        saved(&small(Rows { frames: 4, size: 8 })),
        saved(&small(videomae())),
    );
    let config = |folder: &Path| folder.join(checkpoint::CONFIG);
    std::fs::copy(config(rows.path()), config(tubes.path())).expect("copied");
    let said = refused(tubes.path(), &families);
    assert!(
        said.contains("encoder.row.weight") && said.contains("model.safetensors"),
        "{said}"
    );
    edited(rows.path(), |json| {
        json["encoder"]["family"] = "videomae".into();
    });
    let said = refused(rows.path(), &families);
    assert!(said.contains("config.json: encoder: "), "{said}");
}

#[test]
fn version_1_has_no_family_and_version_2_must_say_it() {
    let folder = saved(&small(videomae()));
    let families = Families::default();
    let remove = |json: &mut Value| {
        json["encoder"]
            .as_object_mut()
            .expect("an object")
            .remove("family");
    };
    edited(folder.path(), remove);
    let said = refused(folder.path(), &families);
    assert!(said.contains("encoder.family: missing"), "{said}");
    edited(folder.path(), |json| {
        json["version"] = json!(1);
    });
    let checkpoint = Checkpoint::open(folder.path()).expect("version 1");
    assert_eq!(checkpoint.config(), &small(videomae()));
    edited(folder.path(), |json| {
        json["encoder"]["family"] = json!("videomae");
    });
    let said = refused(folder.path(), &families);
    assert!(said.contains("not known in version 1"), "{said}");
    for (family, wanted) in [(json!(7), "should be the name"), (json!("vit"), "\"vit\"")] {
        edited(folder.path(), |json| {
            json["version"] = json!(2);
            json["encoder"]["family"] = family;
        });
        let said = refused(folder.path(), &families);
        assert!(
            said.contains("encoder.family: ") && said.contains(wanted),
            "{said}"
        );
    }
}

#[test]
fn decoders_that_need_a_grid_refuse_tokens_without_one() {
    let rows = Rows { frames: 4, size: 8 };
    let classes = vec!["calm".to_owned(), "glad".to_owned()];
    let said = Config::new(rows, Structure::Mnc, classes).validate();
    assert_eq!(
        said.expect_err("no grid").to_string(),
        "model config: decoder.structure: mnc needs tokens that lie in a grid (t, h, w), and \
         those of this rows encoder have no place in one"
    );
}
