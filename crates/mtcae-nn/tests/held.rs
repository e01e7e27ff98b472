//! What plans and operations say where the process is held to an instruction set. Each
//! case is a process of its own: this program again, with one test.

use std::process::Command;

use candle_core::{Device, Tensor};
use mtcae_nn::isa::{Isa, VARIABLE};
use mtcae_nn::plan::{Factors, Format, Precision, format};
use mtcae_nn::{ops, optim};

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|e| e.to_string(), |_| "done".to_owned())
}

#[test]
#[ignore = "the other tests run it, in processes of their own"]
fn tells() {
    let cpu = &Device::Cpu;
    let x = Tensor::ones((4, 16), candle_core::DType::F32, cpu).expect("ones");
    let ones = Tensor::ones(16, candle_core::DType::F32, cpu).expect("ones");
    println!("f32 {}", said(format(Precision::F32)));
    println!("bf16 {}", said(format(Precision::Bf16)));
    println!("prepare {}", said(Precision::F32.prepare(cpu)));
    println!("gelu {}", said(ops::gelu(&x)));
    println!(
        "layer-norm {}",
        said(ops::layer_norm(&x, &ones, &ones, 1e-6))
    );
    println!("linear {}", said(ops::linear(&x, &x, None)));
    println!(
        "blend {}",
        said(optim::blend(
            &x,
            &ones.broadcast_as((4, 16)).expect("x"),
            0.5,
            0.5
        ))
    );
    println!("norm {}", said(optim::sum_of_squares(&x)));
}

const ALL: [&str; 7] = [
    "f32",
    "prepare",
    "gelu",
    "layer-norm",
    "linear",
    "blend",
    "norm",
];

fn told(value: &str) -> impl Fn(&str) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "tells", "--ignored", "--nocapture"]);
    let output = command.env(VARIABLE, value).output().expect("started");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    move |what| {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{what} ")));
        line.unwrap_or_else(|| panic!("nothing of {what}: {text}"))
            .to_owned()
    }
}

#[test]
fn nothing_begins_where_the_variable_cannot_be_obeyed() {
    let told = told("avx3");
    for what in ALL.iter().chain(&["bf16"]) {
        let said = told(what);
        assert!(
            said.contains("MTCAE_ISA=\"avx3\": no such instruction set"),
            "{what}: {said}"
        );
    }
}

#[test]
fn held_to_what_has_no_bf16_the_variable_is_named() {
    let told = told("portable");
    for what in ALL {
        assert_eq!(told(what), "done", "{what}");
    }
    let words = match Format::needs(Factors::Bf16) {
        Some(with) => format!(
            "bf16: MTCAE_ISA=portable holds the program to portable, which has none; MTCAE_ISA={}, \
             or none at all,",
            with.name()
        ),
        None => "bf16 needs a CPU with AMX or AVX512-BF16, which this one lacks".to_owned(),
    };
    assert!(told("bf16").starts_with(&words), "{}", told("bf16"));
}

#[test]
fn held_to_what_has_bf16_it_is_there() {
    for isa in Isa::of_cpu() {
        let told = told(isa.name());
        let has = Format::needs(Factors::Bf16).is_some() && matches!(isa.name(), "amx" | "avx512");
        assert_eq!(
            told("bf16") == "done",
            has,
            "{}: {}",
            isa.name(),
            told("bf16")
        );
    }
}
