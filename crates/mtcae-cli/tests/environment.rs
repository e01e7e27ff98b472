//! What the programs read of the environment: the instruction set and the threads.

mod common;

use std::process::Output;

use common::{code, program, text};
use mtcae_nn::isa::{Isa, NAMES};

/// Every program with arguments that it would take, which write to `out`.
fn programs(out: &str) -> [Vec<&str>; 7] {
    [
        vec!["infer", "--out", out],
        vec!["init", "--size", "tiny", "--out", out],
        vec!["label", "no.mp4", "--out", out],
        vec!["synth", out],
        vec![
            "train",
            "--labels",
            "no.jsonl",
            "--checkpoint",
            "no",
            "--out",
            out,
        ],
        vec![
            "evaluate",
            "--labels",
            "no.jsonl",
            "--checkpoint",
            "no",
            "--out",
            out,
        ],
        vec![
            "ablation",
            "--labels",
            "no.jsonl",
            "--checkpoint",
            "no",
            "--out",
            out,
        ],
    ]
}

fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = program(args[0]);
    command.args(&args[1..]).current_dir(std::env::temp_dir());
    command
        .env_remove("MTCAE_ISA")
        .env_remove("RAYON_NUM_THREADS");
    let command = command.envs(variables.iter().copied());
    command.output().expect("started")
}

#[test]
fn an_instruction_set_that_cannot_be_used_stops_every_program() {
    let here: Vec<&str> = Isa::of_cpu().iter().map(|isa| isa.name()).collect();
    let missing = NAMES.iter().find(|name| !here.contains(name)).copied();
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    for args in programs(&out.display().to_string()) {
        for value in [Some("avx3"), missing].into_iter().flatten() {
            let output = run(&args, &[("MTCAE_ISA", value)]);
            let said = text(&output.stderr);
            let one = said.starts_with("error: MTCAE_ISA=") && said.lines().count() == 1;
            assert!(code(&output) == 1 && one, "{args:?}: {said}");
            let all = here.iter().all(|name| said.contains(name));
            assert!(all && said.contains(value), "{said}");
            assert!(!out.exists(), "{args:?} wrote something");
        }
        // Help is given all the same, and names the variable.
        let output = run(&[args[0], "--help"], &[("MTCAE_ISA", "avx3")]);
        let said = text(&output.stdout);
        assert!(code(&output) == 0 && said.contains("MTCAE_ISA"), "{said}");
        assert!(NAMES.iter().all(|name| said.contains(name)), "{said}");
    }
}

#[test]
fn a_program_computes_the_same_on_every_instruction_set_and_number_of_threads() {
    let demo = mtcae_testing::fixtures().join("demo");
    let [clip, drawn] = ["rendered.mp4", "checkpoint"].map(|n| demo.join(n).display().to_string());
    let answer = |variables: &[(&str, &str)], args: &[&str]| {
        let base = ["infer", &clip, "--checkpoint", &drawn];
        let output = run(
            &[&base[..], &["--format", "json", "--quiet"], args].concat(),
            variables,
        );
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        common::answer(&output.stdout)
    };
    let likeliest = |json: &serde_json::Value| {
        let all = json["probabilities"].as_array().expect("a list").clone();
        let of = |p: &serde_json::Value| p["probability"].as_f64().expect("a number");
        all.iter().map(of).collect::<Vec<f64>>()
    };
    let best = answer(&[], &["--threads", "1"]);
    // More threads than heads, rows of a face or frames.
    assert_eq!(answer(&[], &["--threads", "64"]), best);
    assert_eq!(answer(&[("RAYON_NUM_THREADS", "3")], &[]), best);
    for isa in Isa::of_cpu() {
        let held = answer(&[("MTCAE_ISA", isa.name())], &[]);
        for (a, b) in likeliest(&held).iter().zip(likeliest(&best)) {
            assert!((a - b).abs() < 1e-4, "{}: {a} and {b}", isa.name());
        }
    }
}

#[test]
fn bf16_that_the_process_may_not_use_names_the_variable() {
    let output = run(
        &["infer", "--precision", "bf16"],
        &[("MTCAE_ISA", "portable")],
    );
    let said = text(&output.stderr);
    assert!(code(&output) == 1 && said.lines().count() == 1, "{said}");
    let has = mtcae_nn::plan::Format::needs(mtcae_nn::plan::Factors::Bf16).is_some();
    assert_eq!(said.contains("MTCAE_ISA=portable holds"), has, "{said}");
    assert_eq!(
        said.contains("which this one lacks; use f32"),
        !has,
        "{said}"
    );
}

#[test]
fn a_number_of_threads_that_is_none_is_said() {
    for value in ["0", "two", "-1", "100000"] {
        let output = run(&["infer"], &[("RAYON_NUM_THREADS", value)]);
        let said = text(&output.stderr);
        let words = format!(
            "error: RAYON_NUM_THREADS must be at least 1 and at most 1024, not {value:?}\n"
        );
        assert!(code(&output) == 1 && said == words, "{said}");
    }
    // What the argument says goes before it, and an empty variable says nothing.
    for (value, args) in [("0", &["--threads", "2"][..]), ("", &[])] {
        let output = run(
            &[&["infer", "--quiet"], args].concat(),
            &[("RAYON_NUM_THREADS", value)],
        );
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    }
    let [.., train, _, _] = programs("out");
    let output = run(&[&train[..], &["--threads", "100000"]].concat(), &[]);
    let said = text(&output.stderr);
    assert!(
        code(&output) == 1 && said.contains("at most 1024, not \"100000\""),
        "{said}"
    );
}
