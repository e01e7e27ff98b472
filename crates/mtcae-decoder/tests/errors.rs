//! What the decoder says when it is given something it cannot use.

use mtcae_decoder::candle_core::{DType, Device, Tensor};
use mtcae_decoder::nn::ParamStore;
use mtcae_decoder::{Config, Error, KvOrder, MultiTaskDecoder, Structure, Task};

fn tiny() -> Config {
    Config {
        width: 12,
        depth: 1,
        heads: 2,
        head_dim: 5,
        ..Config::cascade(8, vec![Task::new("a", 2), Task::new("b", 3)])
    }
}

fn build(cfg: &Config) -> Result<MultiTaskDecoder, Error> {
    MultiTaskDecoder::new(cfg, ParamStore::new(0).builder(&Device::Cpu))
}

#[test]
fn the_field_at_fault_is_named() {
    let faults = [
        ("width", Config { width: 0, ..tiny() }),
        ("depth", Config { depth: 0, ..tiny() }),
        (
            "eps",
            Config {
                eps: -1.0,
                ..tiny()
            },
        ),
        (
            "eps",
            Config {
                eps: f64::NAN,
                ..tiny()
            },
        ),
        // 0 in `f32`, which is what it is used as.
        (
            "eps",
            Config {
                eps: 1e-50,
                ..tiny()
            },
        ),
        (
            "mlp_ratio",
            Config {
                mlp_ratio: f64::INFINITY,
                ..tiny()
            },
        ),
        (
            "drop_path",
            Config {
                drop_path: 1.0,
                ..tiny()
            },
        ),
        (
            "tasks",
            Config {
                tasks: vec![],
                ..tiny()
            },
        ),
        (
            "tasks",
            Config {
                tasks: vec![Task::new("a", 1), Task::new("a", 1)],
                ..tiny()
            },
        ),
        (
            "tasks",
            Config {
                tasks: vec![Task::new("a.b", 1)],
                ..tiny()
            },
        ),
        (
            "tasks",
            Config {
                tasks: vec![Task::new("a", 0)],
                ..tiny()
            },
        ),
        (
            "kv_order",
            Config {
                kv_order: KvOrder::NormDense,
                structure: Structure::SeparateMlp,
                ..tiny()
            },
        ),
    ];
    for (field, cfg) in faults {
        let error = build(&cfg).expect_err(field);
        assert!(
            matches!(&error, Error::Config { field: at, .. } if *at == field),
            "{field}: {error}"
        );
    }
}

#[test]
fn an_unknown_field_or_structure_in_json_is_named() {
    let mut json = serde_json::to_value(tiny()).expect("json");
    json["widht"] = 3.into();
    let error = serde_json::from_value::<Config>(json.clone())
        .expect_err("unknown field")
        .to_string();
    assert!(error.contains("widht"), "{error}");
    json.as_object_mut().expect("an object").remove("widht");
    json["structure"] = "cascaded".into();
    let error = serde_json::from_value::<Config>(json)
        .expect_err("unknown structure")
        .to_string();
    assert!(
        error.contains("cascaded") && error.contains("separate-vit"),
        "{error}"
    );
}

#[test]
fn features_of_another_shape_are_refused() {
    let decoder = build(&tiny()).expect("built");
    for shape in [vec![1, 3, 9], vec![3, 8], vec![1, 0, 8]] {
        let f = Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros");
        assert!(matches!(
            decoder.forward(&f),
            Err(Error::Features { width: 8, .. })
        ));
    }
}

#[test]
fn another_dtype_is_refused_by_the_kernel() {
    let decoder = build(&tiny()).expect("built");
    let f = Tensor::zeros((1, 3, 8), DType::F64, &Device::Cpu).expect("zeros");
    assert!(decoder.forward(&f).is_err());
}

#[test]
fn structures_go_by_the_names_of_the_config() {
    for structure in Structure::ALL {
        assert_eq!(
            structure.name().parse::<Structure>().expect("a name"),
            structure
        );
        assert_eq!(
            serde_json::to_value(structure).expect("json"),
            structure.name()
        );
    }
    let error = "cascaded"
        .parse::<Structure>()
        .expect_err("no name")
        .to_string();
    assert!(
        error.contains("cascaded") && error.contains("shared-vit"),
        "{error}"
    );
}
