//! The environment variable that holds a process to an instruction set. It is read once a
//! process, so each case is a process of its own: this program again, with one test.

use std::process::Command;

use mtcae_kernels::format::Format;
use mtcae_kernels::gelu;
use mtcae_kernels::isa::{Isa, IsaError, NAMES, VARIABLE};

fn names(isas: &[Isa]) -> Vec<&'static str> {
    isas.iter().map(|isa| isa.name()).collect()
}

fn numbers() -> Vec<f32> {
    (0..4096).map(|i| i as f32 / 512.0 - 4.0).collect()
}

/// The bits of GELU of some numbers, as one number.
fn bits(gelu: impl FnOnce(&[f32], &mut [f32])) -> u64 {
    let (x, mut out) = (numbers(), vec![0.0; 4096]);
    gelu(&x, &mut out);
    out.iter().fold(0, |sum: u64, y| {
        sum.wrapping_mul(31).wrapping_add(y.to_bits().into())
    })
}

/// What a process says of itself.
#[test]
#[ignore = "the other tests run it, in processes of their own"]
fn tells() {
    let held = Isa::held();
    println!(
        "held {}",
        held.map_or_else(|e| e.to_string(), |isa| isa.name().to_owned())
    );
    println!("best {}", Isa::best().name());
    println!("available {:?}", names(&Isa::available()));
    println!("of_cpu {:?}", names(&Isa::of_cpu()));
    let formats: Vec<&str> = Format::available().iter().map(|f| f.name()).collect();
    println!("formats {formats:?}");
    println!("gelu {}", bits(gelu::forward));
}

/// What a process says that the variable is given to.
fn told(value: Option<&str>) -> impl Fn(&str) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "tells", "--ignored", "--nocapture"]);
    match value {
        Some(value) => command.env(VARIABLE, value),
        None => command.env_remove(VARIABLE),
    };
    let output = command.output().expect("started");
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
fn kernels_run_on_what_the_process_is_held_to_and_list_nothing_above_it() {
    let cpu = Isa::of_cpu();
    for (i, isa) in cpu.iter().enumerate() {
        let told = told(Some(isa.name()));
        assert_eq!(
            (told("held"), told("best")),
            (isa.name().to_owned(), isa.name().to_owned())
        );
        assert_eq!(told("available"), format!("{:?}", names(&cpu[i..])));
        assert_eq!(told("of_cpu"), format!("{:?}", names(&cpu)));
        let want = bits(|x, out| gelu::forward_with(*isa, x, out));
        assert_eq!(told("gelu"), want.to_string(), "{}", isa.name());
        for above in &cpu[..i] {
            assert!(
                !told("formats").contains(above.name()),
                "{}",
                told("formats")
            );
        }
        assert!(told("formats").contains(isa.name()), "{}", told("formats"));
    }
}

#[test]
fn without_the_variable_and_with_an_empty_one_the_best_runs() {
    let best = Isa::of_cpu()[0].name();
    for value in [None, Some("")] {
        assert_eq!(told(value)("held"), best);
    }
}

#[test]
fn what_cannot_be_obeyed_is_said_and_nothing_above_the_portable_runs() {
    let here = names(&Isa::of_cpu());
    let value = "avx3".to_owned();
    let mut wrong = vec![IsaError::Unknown {
        value,
        here: here.clone(),
    }];
    for name in NAMES.iter().filter(|name| !here.contains(name)) {
        let value = (*name).to_owned();
        wrong.push(IsaError::Missing {
            value,
            here: here.clone(),
        });
    }
    for error in wrong {
        let (IsaError::Unknown { value, .. } | IsaError::Missing { value, .. }) = &error else {
            unreachable!("the errors above")
        };
        let told = told(Some(value));
        assert_eq!(told("held"), error.to_string());
        assert_eq!(
            (&*told("best"), &*told("available")),
            ("portable", "[\"portable\"]")
        );
        assert_eq!(told("formats"), "[\"portable\"]");
    }
}
