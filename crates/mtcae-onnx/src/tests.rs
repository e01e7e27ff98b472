//! What is in the files, read by their own messages; `tests/parity.py` has ONNX Runtime
//! read and compute them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use mtcae_decoder::Structure;
use mtcae_encoder::{
    Encoder, EncoderConfig, Error as EncoderError, Families, Group, Input, Layout, LgiFormerConfig,
    Output, TpsbtConfig, VideoMaeConfig,
};
use mtcae_model::{Checkpoint, Config, checkpoint, init};
use mtcae_nn::{ParamStore, VarBuilder};
use prost::Message;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::proto::{EXTERNAL, GraphProto, ModelProto, TensorProto, ValueInfoProto};
use crate::{Error, Onnx, Options, Part};

fn saved(config: &Config) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ParamStore::new(1);
    init::draw(config, &store, init::Draw::Normal).expect("drawn");
    let vars = store.vars();
    let tensors = vars.iter().map(|(name, var)| (&name[..], var.as_tensor()));
    checkpoint::save(folder.path(), config, tensors).expect("saved");
    folder
}

fn config(structure: Structure) -> Config {
    let encoder = VideoMaeConfig {
        image_size: 32,
        frames: 4,
        width: 48,
        depth: 2,
        hidden: 64,
        ..VideoMaeConfig::tiny()
    };
    narrow(Config::new(
        encoder,
        structure,
        vec!["a".into(), "b".into()],
    ))
}

fn narrow(mut config: Config) -> Config {
    (config.decoder.width, config.decoder.depth) = (16, 2);
    config
}

fn only(part: Part) -> Options {
    Options {
        part,
        ..Options::default()
    }
}

fn read(path: &Path) -> (ModelProto, GraphProto) {
    let bytes = std::fs::read(path).expect("read");
    let mut model = ModelProto::decode(&*bytes).expect("a model");
    let graph = model.graph.take().expect("a graph");
    (model, graph)
}

/// The file of a model and what is in it.
fn written(checkpoint: &Checkpoint, options: Options) -> (ModelProto, GraphProto) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    let onnx = Onnx::new(checkpoint, options).expect("a graph");
    onnx.write(&path).expect("written");
    read(&path)
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let names = entries.map(|entry| name(entry).to_string_lossy().into_owned());
    names.collect()
}

/// Names and dimensions, as a person writes them.
fn ports(ports: &[ValueInfoProto]) -> Vec<String> {
    let shown = |port: &ValueInfoProto| {
        let shape = port.r#type.clone().and_then(|t| t.tensor_type?.shape);
        let dims = shape.expect("a shape").dim.into_iter();
        let dims = dims.map(|d| d.dim_param.or(d.dim_value.map(|n| n.to_string())));
        let dims: Vec<String> = dims.collect::<Option<_>>().expect("a dimension");
        format!(
            "{} {}",
            port.name.clone().unwrap_or_default(),
            dims.join("x")
        )
    };
    ports.iter().map(shown).collect()
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    let bytes = tensor.raw_data.as_ref().expect("numbers").as_chunks().0;
    bytes.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn each_part_has_its_inputs_and_outputs_for_any_number_of_clips() {
    let units = vec!["AU1".to_owned(), "AU2".to_owned(), "AU4".to_owned()];
    let folder = saved(&config(Structure::Cascade).with_action_units(units));
    let opened = Checkpoint::open(folder.path()).expect("opened");
    let answers = [
        "boxes batchx4x4",
        "landmarks batchx4x5x2",
        "action_units batchx4x3",
        "logits batchx2",
        "probabilities batchx2",
    ];
    let (clip, features) = (["clip batchx4x3x32x32"], ["features batchx8x48"]);
    for (part, from, to) in [
        (Part::Whole, clip, &answers[..]),
        (Part::Encoder, clip, &features),
        (Part::Decoder, features, &answers),
    ] {
        let (_, graph) = written(&opened, only(part));
        assert_eq!(ports(&graph.input), from, "{part}");
        assert_eq!(ports(&graph.output), to, "{part}");
    }
    let all = Options {
        intermediates: true,
        ..Options::default()
    };
    let onnx = Onnx::new(&opened, all).expect("a graph");
    assert_eq!(
        onnx.outputs(),
        [
            "features",
            "Y1",
            "boxes",
            "Y2",
            "landmarks",
            "Y3",
            "action_units",
            "Y4",
            "logits",
            "probabilities"
        ]
    );
}

/// Nothing that a checkpoint holds is forgotten, and nothing is read that it does not hold.
#[test]
fn every_tensor_is_in_one_part_under_its_own_name_and_in_the_whole() {
    let classes = || vec!["a".to_owned(), "b".to_owned()];
    let lgi_former = LgiFormerConfig {
        width: 48,
        depth: 2,
        hidden: 64,
        ..LgiFormerConfig::tiny()
    };
    let tpsbt = TpsbtConfig {
        image_size: 32,
        width: 48,
        depths: [1, 2, 1],
        hidden: 64,
        ..TpsbtConfig::tiny()
    };
    let mut configs: Vec<Config> = Structure::ALL.into_iter().map(config).collect();
    configs.push(narrow(Config::new(
        lgi_former,
        Structure::Cascade,
        classes(),
    )));
    configs.push(narrow(Config::new(tpsbt, Structure::Cascade, classes())));
    for config in configs {
        let folder = saved(&config);
        let opened = Checkpoint::open(folder.path()).expect("opened");
        let shapes: BTreeMap<_, _> = config.tensors().expect("tensors").into_iter().collect();
        let of = |part| -> BTreeSet<String> {
            let (_, graph) = written(&opened, only(part));
            let tensors = graph.initializer.into_iter().filter_map(|tensor| {
                let name = tensor.name.clone()?;
                let dims: Vec<usize> = tensor.dims.iter().map(|&n| n as usize).collect();
                let shape = shapes.get(&name)?;
                let turned: Vec<usize> = shape.iter().rev().copied().collect();
                assert!(dims == *shape || dims == turned, "{name} is {dims:?}");
                assert_eq!(
                    floats(&tensor).len(),
                    shape.iter().product::<usize>(),
                    "{name}"
                );
                Some(name)
            });
            tensors.collect()
        };
        let (family, structure) = (config.encoder.family(), config.decoder.structure);
        let all: BTreeSet<String> = shapes.keys().cloned().collect();
        assert_eq!(of(Part::Whole), all, "{family} {structure}");
        let encoder = of(Part::Encoder);
        assert!(encoder.iter().all(|name| name.starts_with("encoder.")));
        if structure != Structure::SingleTask {
            let decoder = of(Part::Decoder);
            assert!(decoder.is_disjoint(&encoder), "{family} {structure}");
            let both: BTreeSet<String> = encoder.union(&decoder).cloned().collect();
            assert_eq!(both, all, "{family} {structure}");
        }
    }
}

#[test]
fn decoders_that_are_none_of_the_six_are_refused_and_their_encoders_written() {
    let mut config = config(Structure::Cascade);
    config.decoder = mtcae_decoder::Config::suited(
        Structure::MtFormer,
        config.decoder.features,
        config.encoder.output().grid,
        config.decoder.tasks.clone(),
    );
    let folder = saved(&config);
    let opened = Checkpoint::open(folder.path()).expect("opened");
    for part in [Part::Whole, Part::Decoder] {
        let said = Onnx::new(&opened, only(part)).err().map(|e| e.to_string());
        let want = "the decoder mtformer is not exported: ONNX is written of the six structures of \
                    the paper, and of the encoder alone";
        assert_eq!(said.as_deref(), Some(want));
    }
    written(&opened, only(Part::Encoder));
}

#[test]
fn a_file_says_what_it_is() {
    let mut config = config(Structure::Cascade);
    config.trained_on = Some("nothing much".to_owned());
    let folder = saved(&config);
    let opened = Checkpoint::open(folder.path()).expect("opened");
    let (model, graph) = written(&opened, only(Part::Whole));
    let said = model.metadata_props.into_iter();
    let said: BTreeMap<String, String> = said
        .map(|p| (p.key.unwrap_or_default(), p.value.unwrap_or_default()))
        .collect();
    assert_eq!(said["part"], "whole");
    assert_eq!(said["trained_on"], "nothing much");
    assert_eq!(said["classes"], r#"["a","b"]"#);
    assert_eq!(said["mean"], "[0.485,0.456,0.406]");
    assert_eq!(said["std"], "[0.229,0.224,0.225]");
    let families = Families::default();
    let again = Config::parse(&said["config"], &families, "the metadata").expect("a config");
    assert_eq!(again, config);
    assert_eq!(
        model.producer_version.as_deref(),
        Some(env!("CARGO_PKG_VERSION"))
    );
    // Names of nodes tell them apart.
    let names: BTreeSet<_> = graph.node.iter().map(|node| node.name.clone()).collect();
    assert_eq!(names.len(), graph.node.len());
}

#[test]
fn weights_beside_the_model_are_those_within_it() {
    let folder = saved(&config(Structure::Cascade));
    let opened = Checkpoint::open(folder.path()).expect("opened");
    let out = tempfile::tempdir().expect("a folder");
    let path = out.path().join("m.onnx");
    let apart = Options {
        external: true,
        ..Options::default()
    };
    let onnx = Onnx::new(&opened, apart).expect("a graph");
    onnx.write(&path).expect("written");
    let names = ["m.onnx", "m.onnx.data"];
    assert_eq!(onnx.files(&path), names.map(|name| out.path().join(name)));
    assert_eq!(names_in(out.path()), names.map(str::to_owned).into());
    let data = std::fs::read(out.path().join("m.onnx.data")).expect("read");
    let (_, within) = written(&opened, Options::default());
    let (_, apart) = read(&path);
    assert_eq!(apart.node, within.node);
    let mut beside = 0;
    for (found, want) in apart.initializer.iter().zip(&within.initializer) {
        assert_eq!((&found.name, &found.dims), (&want.name, &want.dims));
        let want = want.raw_data.as_ref().expect("numbers");
        if found.data_location != Some(EXTERNAL) {
            assert!(want.len() < 1024);
            assert_eq!(found.raw_data.as_ref(), Some(want));
            continue;
        }
        beside += 1;
        let says = |key: &str| {
            let mut pairs = found.external_data.iter();
            let pair = pairs.find(|pair| pair.key.as_deref() == Some(key));
            pair.and_then(|pair| pair.value.clone()).expect(key)
        };
        let [offset, length] = ["offset", "length"].map(|key| says(key).parse().expect(key));
        let _: [usize; 2] = [offset, length];
        assert_eq!(says("location"), "m.onnx.data");
        assert!(offset.is_multiple_of(4096));
        assert_eq!(
            &data[offset..offset + length],
            &want[..],
            "{:?}",
            found.name
        );
    }
    assert!(beside > 50, "{beside}");
}

#[test]
fn the_decoder_of_a_structure_without_one_is_refused() {
    let folder = saved(&config(Structure::SingleTask));
    let opened = Checkpoint::open(folder.path()).expect("opened");
    let error = Onnx::new(&opened, only(Part::Decoder)).err();
    let said = error.expect("refused").to_string();
    assert!(said.contains("single-task has no decoder"), "{said}");
    for part in [Part::Whole, Part::Encoder] {
        Onnx::new(&opened, only(part)).expect("a graph");
    }
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let folder = saved(&config(Structure::Cascade));
    let opened = Checkpoint::open(folder.path()).expect("opened");
    let onnx = Onnx::new(&opened, Options::default()).expect("a graph");
    let out = tempfile::tempdir().expect("a folder");
    let missing = out.path().join("missing").join("m.onnx");
    let said = onnx.write(&missing).expect_err("no folder").to_string();
    assert!(said.starts_with(&missing.display().to_string()), "{said}");
    let path = out.path().join("m.onnx");
    std::fs::write(&path, "before").expect("written");
    // Torn after it was opened.
    let weights = folder.path().join("model.safetensors");
    let file = std::fs::File::options()
        .write(true)
        .open(weights)
        .expect("opened");
    file.set_len(20_000).expect("torn");
    let said = onnx.write(&path).expect_err("torn").to_string();
    assert!(said.contains("model.safetensors"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "before");
    assert_eq!(names_in(out.path()), ["m.onnx".to_owned()].into());
}

/// A family of another crate: nothing but a layer.
#[derive(Debug)]
struct Foreign;

impl EncoderConfig for Foreign {
    fn family(&self) -> &'static str {
        "patch-means"
    }

    fn fields(&self) -> serde_json::Result<Json> {
        Ok(Json::Object(serde_json::Map::new()))
    }

    fn input(&self) -> Input {
        Input {
            frames: 2,
            size: 8,
            channels: 3,
            layout: Layout::Frames,
        }
    }

    fn output(&self) -> Output {
        Output {
            tokens: 2,
            width: 24,
            grid: None,
        }
    }

    fn groups(&self) -> Vec<Group> {
        vec![Group::new("layer", 1, [("layer.bias", vec![24])])]
    }

    fn build(&self, vb: VarBuilder<'_>) -> Result<Arc<dyn Encoder>, EncoderError> {
        vb.get(24, "layer.bias")?;
        Err(EncoderError::Field {
            origin: "this test".to_owned(),
            field: "layer".to_owned(),
            reason: "is never computed".to_owned(),
        })
    }
}

#[test]
fn a_family_of_another_crate_is_named() {
    let classes = vec!["a".to_owned(), "b".to_owned()];
    let config = Config::new(Foreign, Structure::Cascade, classes);
    let error = crate::build(&config, only(Part::Whole)).err();
    let said = error.as_ref().map(Error::to_string).unwrap_or_default();
    assert!(
        said.contains("family patch-means are not exported"),
        "{said}"
    );
    assert!(crate::build(&config, only(Part::Decoder)).is_ok());
}

#[test]
fn the_families_are_all_that_there_are_but_residual_networks_which_are_named() {
    let families: BTreeSet<&str> = Families::presets().map(|(family, _)| family).collect();
    for family in families {
        let encoder = Families::preset(family, "tiny", &Default::default()).expect("tiny");
        let config = Config::new(encoder, Structure::Cascade, vec!["a".into()]);
        match crate::build(&config, Options::default()) {
            Ok(_) => assert_ne!(family, "resnet"),
            Err(error) => {
                let said = error.to_string();
                let want = "encoders of the family resnet are not exported: ONNX is written of \
                            videomae, lgi-former and tpsbt";
                assert_eq!((family, said.as_str()), ("resnet", want));
            }
        }
    }
}
