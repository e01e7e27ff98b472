//! A program that a launcher has started several times, and that cannot connect to the others,
//! says so and does nothing: not several trainings in one folder.
#![cfg(not(feature = "mpi"))]

use std::process::{Command, Output};

/// A training, with what a launcher would have set.
fn train(variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mtcae"));
    command.arg("train");
    for name in ["labels", "checkpoint", "out"] {
        command.args([format!("--{name}"), "nowhere".to_owned()]);
    }
    command.envs(variables.iter().copied());
    command.output().expect("started")
}

fn said(variables: &[(&str, &str)]) -> String {
    let output = train(variables);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_mpi_the_first_rank_says_what_to_build_and_the_others_are_silent() {
    let of_rank = |rank| {
        [
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_RANK", rank),
        ]
    };
    assert_eq!(
        said(&of_rank("0")),
        "error: mpirun has started 2 ranks, and this program is built without MPI: build it with \
         `--features mpi`, or start one\n"
    );
    assert_eq!(said(&of_rank("1")), "");
    let slurm = [("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "0")];
    assert!(said(&slurm).starts_with("error: srun has started 8 ranks"));
}

#[test]
fn variables_for_gpus_start_no_ranks_on_cpus() {
    let world = [("WORLD_SIZE", "4"), ("RANK", "0")];
    assert_eq!(
        said(&world),
        "error: WORLD_SIZE and RANK are for GPUs (--device cuda:0); on CPUs `mpirun -np N` starts \
         ranks\n"
    );
    let world = [("WORLD_SIZE", "many"), ("RANK", "0")];
    assert_eq!(
        said(&world),
        "error: WORLD_SIZE: must say how many ranks there are, not \"many\"\n"
    );
}

/// One rank is a program as any other.
#[test]
fn one_rank_needs_no_mpi() {
    let one = said(&[("OMPI_COMM_WORLD_SIZE", "1"), ("OMPI_COMM_WORLD_RANK", "0")]);
    assert!(one.starts_with("error: nowhere"), "{one}");
}
