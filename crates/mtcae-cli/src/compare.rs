//! `compare`: every system that the paper compares with, under one protocol.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Command, FromArgMatches, Parser, ValueEnum};
use mtcae_nn::Isa;
use mtcae_train::compare::{Comparison, Size, System, Systems, Track, compare, tables};
use mtcae_train::{Dataset, Selection, Task};
use toml::Table;

use crate::output::clean_up_when_stopped;
use crate::threads::limit_threads_of_training;
use crate::training::{Screen, folds_in_words};
use crate::{Download, Fault, config, device, note, say, settings};

/// Cross-validates every system that the paper's Tables II to IV name beside the cascade, and
/// prints one table: ours beside the published figures and their protocol, with intervals, tests
/// of the differences, and what each costs.
///
/// Started again with the same settings, it goes on where it was stopped; systems and seeds
/// can be added. A system that fails does not stop the others. The settings go over those of
/// every system's own recipe.
#[derive(Parser)]
#[command(name = "compare", version)]
struct Args {
    /// Label file, as `label` or `synth` writes it.
    #[arg(long, value_name = "FILE.jsonl", required_unless_present_any = ["list", "tables"])]
    labels: Option<PathBuf>,

    /// Folder that the label file's videos lie in; its own by default.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Folder for the runs and the tables, table.md and table.html.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    out: Option<PathBuf>,

    /// The systems, by the names that --list gives [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    systems: Vec<String>,

    /// Systems of one's own, or what is otherwise of those that are known: a table for each, as
    /// docs/comparison.md has it.
    #[arg(long, value_name = "FILE.toml")]
    define: Option<PathBuf>,

    /// A pretrained encoder for a system: a file, a folder or hub:ORG/NAME. Others are drawn, and
    /// the table says so.
    #[arg(long, value_name = "SYSTEM=FILE|DIR|hub:NAME")]
    weights: Vec<String>,

    /// The paper's protocol (whole frames, five folds), or each system's own (crop, size,
    /// sampling; 8 classes and six folds of RAVDESS).
    #[arg(long, default_value = "paper", value_name = "paper|native")]
    track: Track,

    /// The sizes of the papers, or toys of less than five million parameters at 64 pixels.
    #[arg(long, default_value = "full")]
    size: Sizes,

    /// Seeds; every system is cross-validated once with each.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,

    /// Only clips of these classes, in the order of the logits; by default all classes of
    /// the labels, sorted by name.
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…")]
    classes: Option<Vec<String>>,

    /// Only make the tables of --out again, from what was predicted.
    #[arg(long, conflicts_with = "list")]
    tables: bool,

    /// Only list the systems, and what each is.
    #[arg(long)]
    list: bool,

    /// Where to compute: cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Threads to compute on; one a core by default.
    #[arg(long)]
    threads: Option<usize>,

    /// No progress bars or notices.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sizes {
    Full,
    Small,
}

pub fn command() -> Result<Command, Fault> {
    settings::command::<Args>("compare", Task::Labelled)
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    let mut all_done = true;
    config::main(command, line, |given| {
        let args = Args::from_arg_matches(given.matches())?;
        // What is wrong with them is said by the flag, and before anything is read.
        settings::settings(given, Task::Labelled)?;
        let given = settings::given_alone(given, Task::Labelled)?;
        let given = given
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        all_done = run(&args, &given.collect())?;
        Ok(())
    })?;
    Ok(all_done)
}

/// Whether no cell failed.
fn run(args: &Args, given: &Table) -> Result<bool, Fault> {
    let systems = systems(args)?;
    if args.list {
        for system in &systems {
            say!("{}", described(system));
        }
        return Ok(true);
    }
    clean_up_when_stopped()?;
    let missing = |flag: &str| format!("{flag}: is needed");
    let out = args.out.as_deref().ok_or_else(|| missing("--out"))?;
    if args.tables {
        say!("{}", tables(out)?);
        return Ok(true);
    }
    let labels = args.labels.as_deref().ok_or_else(|| missing("--labels"))?;
    Isa::held()?;
    limit_threads_of_training(args.threads, None)?;
    let device = device(&args.device)?;
    let selection = args.track.selection(Selection {
        root: args.root.as_deref(),
        only: args.classes.as_deref(),
        ..Selection::default()
    });
    // Which clips there are and how they are dealt is the same for all of them.
    let shared = systems[0].settings(given)?;
    let mut data = Dataset::read(labels, &selection, &shared)?;
    args.track.apply(&mut data)?;
    if !args.quiet {
        for notice in &data.notices {
            note!("warning: {notice}");
        }
        note!(
            "{}: {} clips, classes {}, {}; {} systems, {} seeds",
            labels.display(),
            data.items.len(),
            data.classes.join(", "),
            folds_in_words(&data),
            systems.len(),
            args.seeds.len()
        );
        if let Some(scaled) = unevenly_scaled(&systems, given)? {
            note!(
                "warning: --lr is multiplied by the clips of a step over 256 in the recipes of \
                 {scaled}, and not in the others: --scale-lr false gives all the same rate"
            );
        }
    }
    let comparison = Comparison {
        folder: out,
        systems: &systems,
        size: match args.size {
            Sizes::Full => Size::Full,
            Sizes::Small => Size::Small,
        },
        track: args.track,
        seeds: &args.seeds,
        data: &Arc::new(data),
        settings: given,
        device: &device,
        machine: &machine(&args.device)?,
    };
    let mut screen = Screen::new(args.quiet);
    let mut download = Download::new(args.quiet);
    let (table, failures) = compare(
        &comparison,
        &mut |file, done, total| download.step(file, done, total),
        &mut |event| screen.show(event),
    )?;
    screen.done();
    say!("{table}");
    for failure in &failures {
        note!(
            "{}, seed {}: {}",
            failure.system,
            failure.seed,
            failure.reason
        );
    }
    Ok(failures.is_empty())
}

/// The systems in which a learning rate that is given to all is not what the others make of it.
fn unevenly_scaled(systems: &[System], given: &Table) -> Result<Option<String>, Fault> {
    if !given.contains_key("lr") || given.contains_key("scale_lr") {
        return Ok(None);
    }
    let mut scaled = Vec::new();
    for system in systems {
        if system.settings(given)?.scale_lr {
            scaled.push(&system.name[..]);
        }
    }
    let uneven = !scaled.is_empty() && scaled.len() < systems.len();
    Ok(uneven.then(|| scaled.join(", ")))
}

/// The systems that are asked for.
fn systems(args: &Args) -> Result<Vec<System>, Fault> {
    let mut known = Systems::known()?;
    if let Some(path) = &args.define {
        known.define(path)?;
    }
    let mut systems = match args.systems.is_empty() {
        true => known.all().to_vec(),
        false => known.named(&args.systems)?,
    };
    for given in &args.weights {
        let (name, weights) = given
            .split_once('=')
            .ok_or_else(|| format!("--weights: {given:?} is not SYSTEM=FILE, DIR or hub:NAME"))?;
        let system = systems.iter_mut().find(|system| system.name == name);
        let system = system.ok_or_else(|| {
            format!("--weights: {name:?} is not among the systems that are compared")
        })?;
        system.weights = Some(weights.to_owned());
    }
    Ok(systems)
}

fn described(system: &System) -> String {
    let mut text = format!(
        "{:<20} {}: {} with {}, recipe {}; {}",
        system.name, system.title, system.encoder, system.decoder, system.recipe, system.status
    );
    if let Some(note) = &system.note {
        text += &format!(": {note}");
    }
    text
}

/// What figures of speed are of, in words.
fn machine(device: &str) -> Result<String, Fault> {
    if device != "cpu" {
        return Ok(device.to_owned());
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| {
        let (key, name) = line.split_once(':')?;
        (key.trim() == "model name").then(|| name.trim().to_owned())
    });
    let name = name.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let (isa, threads) = (Isa::held()?.name(), rayon::current_num_threads());
    Ok(format!("{name}, {isa}, {threads} threads"))
}
