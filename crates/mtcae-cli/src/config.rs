//! Arguments from flags and a TOML file: whatever a program's flags say, the file of
//! `--config` may say as well. Nothing is listed twice: the flags are the keys.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, parser::ValueSource, value_parser};
use toml::{Table, Value};

use crate::output::Said;
use crate::{Fault, one_line};

/// The command line of a program: these arguments and `--config`.
pub fn command<A: Args>(name: &'static str) -> Command {
    A::augment_args(Command::new(name)).arg(
        Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE.toml")
            .value_parser(value_parser!(PathBuf))
            .help(
                "Any of these arguments by their names, with _ for -; flags go over it, \
                 and paths in it are relative to the current folder",
            ),
    )
}

/// Runs a program on its arguments, from flags and a file.
pub fn main(
    command: Command,
    line: Vec<OsString>,
    run: impl FnOnce(&Given) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    let given = Given::read(command, line)?;
    match run(&given) {
        Ok(()) => Ok(true),
        Err(error) => Err(given.in_flags(error)),
    }
}

/// The arguments of a run, and where each is from.
pub struct Given {
    matches: ArgMatches,
    /// The names of all flags, as libraries and files call them.
    flags: Vec<String>,
    /// The file, and the keys taken from it.
    file: Option<(PathBuf, BTreeSet<String>)>,
}

impl Given {
    /// A command line of [`command`]'s, and below it the file that it names.
    ///
    /// # Errors
    /// [`clap::Error`] for a flag; for a file one line with its name and the key.
    pub fn read(command: Command, mut line: Vec<OsString>) -> Result<Self, Fault> {
        let named = command.get_arguments().filter(|a| !a.is_positional());
        let names: Vec<String> = named.map(|a| a.get_id().to_string()).collect();
        // What is wrong with the flags is said below, when the file's are there.
        let lenient = command.clone().ignore_errors(true);
        let flags = lenient.try_get_matches_from(&line)?;
        let Some(path) = flags.get_one::<PathBuf>(CONFIG) else {
            let matches = command.try_get_matches_from(line)?;
            return Ok(Self {
                matches,
                flags: names,
                file: None,
            });
        };
        let mut keys = BTreeSet::new();
        let mut from_file = Vec::new();
        for (key, value) in read(path, &command)? {
            let is_flag = |arg: &&Arg| arg.get_id().as_str() == key;
            let Some(arg) = command.get_arguments().find(is_flag) else {
                continue; // `read` has refused it
            };
            if flags.value_source(&key) == Some(ValueSource::CommandLine) {
                continue;
            }
            let words = words(arg, &value);
            from_file.extend(words.map_err(|e| format!("{}: {key}: {e}", path.display()))?);
            keys.insert(key);
        }
        line.splice(1.min(line.len())..1.min(line.len()), from_file);
        let matches = command
            .clone()
            .try_get_matches_from(line)
            .map_err(|e| blame(e, command, path, &keys))?;
        Ok(Self {
            matches,
            flags: names,
            file: Some((path.clone(), keys)),
        })
    }

    /// What clap makes of them.
    pub fn matches(&self) -> &ArgMatches {
        &self.matches
    }

    /// Whether it was given, by a flag or by the file.
    pub fn is_given(&self, key: &str) -> bool {
        self.matches.value_source(key) == Some(ValueSource::CommandLine)
    }

    /// Where an argument is from, to begin an error with: `--batch`, `FILE.toml: batch`, or
    /// `videos` for what has no flag.
    pub fn origin(&self, key: &str) -> String {
        match &self.file {
            Some((path, keys)) if keys.contains(key) => format!("{}: {key}", path.display()),
            _ if self.flags.iter().any(|flag| flag == key) => {
                format!("--{}", key.replace('_', "-"))
            }
            _ => key.to_owned(),
        }
    }

    /// An error in which libraries name their settings, with the names that these have
    /// here: `allow_missing` is `--allow-missing`.
    fn in_flags(&self, error: Fault) -> Fault {
        if error.is::<clap::Error>() || error.is::<std::io::Error>() || error.is::<Said>() {
            return error;
        }
        let mut text = one_line(&*error);
        if let Some(mtcae_train::Error::Config { field, .. }) = error.downcast_ref()
            && let Some(rest) = text.strip_prefix(field)
        {
            text = self.origin(field) + rest;
        }
        for name in &self.flags {
            let flag = format!("--{}", name.replace('_', "-"));
            text = text.replace(&format!("`{name}`"), &flag);
        }
        text.into()
    }
}

const CONFIG: &str = "config";

/// The file's keys, all of which are arguments of `command`.
fn read(path: &Path, command: &Command) -> Result<Table, String> {
    let file = path.display();
    let text =
        mtcae_core::files::read_to_string(path, 1 << 20).map_err(|e| format!("{file}: {e}"))?;
    let table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| format!("{file}: {}", e.to_string().replace('\n', " ")))?;
    let known: BTreeSet<&str> = command
        .get_arguments()
        .map(|a| a.get_id().as_str())
        .collect();
    let unknown: Vec<&str> = table
        .keys()
        .map(String::as_str)
        .filter(|key| *key == CONFIG || !known.contains(key))
        .collect();
    match unknown[..] {
        [] => Ok(table),
        _ => Err(format!(
            "{file}: {}: no such argument of {name}; {name} --help lists them (with - for _)",
            unknown.join(", "),
            name = command.get_bin_name().unwrap_or(command.get_name()),
        )),
    }
}

/// A key's value as the command line says it.
fn words(arg: &Arg, value: &Value) -> Result<Vec<OsString>, String> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        let flag = format!("--{}", arg.get_long().unwrap_or_default());
        return match value {
            Value::Boolean(true) => Ok(vec![flag.into()]),
            Value::Boolean(false) => Ok(Vec::new()),
            other => Err(format!("must be true or false, not {other}")),
        };
    }
    let values = match value {
        Value::Array(values) if values.is_empty() => return Err("is an empty list".to_owned()),
        Value::Array(values) => values.as_slice(),
        single => std::slice::from_ref(single),
    };
    let word = |value: &Value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Float(x) => x.to_string(), // all digits that it has
            Value::Array(_) | Value::Table(_) => {
                return Err(format!("must be a value or a list of values, not {value}"));
            }
            other => other.to_string(),
        };
        Ok(match arg.get_long() {
            // `=`, so that a negative number is a value.
            Some(flag) => format!("--{flag}={text}").into(),
            None => text.into(),
        })
    };
    values.iter().map(word).collect()
}

/// clap's error, of the file's where it is about a key of the file.
fn blame(error: clap::Error, mut command: Command, path: &Path, keys: &BTreeSet<String>) -> Fault {
    command.build(); // only then do arguments know how errors call them
    let about: Vec<&str> = [ContextKind::InvalidArg, ContextKind::PriorArg]
        .into_iter()
        .filter_map(|kind| match error.get(kind)? {
            ContextValue::String(name) => Some(vec![name.as_str()]),
            ContextValue::Strings(names) => Some(names.iter().map(String::as_str).collect()),
            _ => None,
        })
        .flatten()
        .collect();
    let key = command.get_arguments().find_map(|arg| {
        let key = arg.get_id().as_str();
        (keys.contains(key) && about.contains(&&arg.to_string()[..])).then_some(key)
    });
    let Some(key) = key else {
        return error.into();
    };
    // The first paragraph; the rest is the usage.
    let text = error.to_string();
    let reason = text.split("\n\n").next().unwrap_or_default();
    let reason = reason.trim_start_matches("error: ");
    format!("{}: {key}: {reason}", path.display()).into()
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, Parser};

    use super::*;

    #[derive(Parser)]
    struct Wanted {
        /// Where.
        out: PathBuf,
        /// What from.
        #[arg(long)]
        labels: PathBuf,
        /// How many.
        #[arg(long, default_value_t = 8)]
        batch: usize,
        /// Which of them.
        #[arg(long, value_delimiter = ',', default_value = "0,1")]
        seeds: Vec<u64>,
        /// One.
        #[arg(long, conflicts_with = "every_fold")]
        fold: Option<i32>,
        /// All.
        #[arg(long)]
        every_fold: bool,
    }

    /// `a.toml` of this text, and the flags after it.
    fn given(toml: &str, flags: &[&str]) -> Result<Wanted, Fault> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.toml");
        std::fs::write(&file, toml).expect("written");
        let line = ["test", "--config", file.to_str().expect("text")];
        let line = line.iter().chain(flags).map(OsString::from).collect();
        let given = Given::read(command::<Wanted>("test"), line)?;
        Ok(Wanted::from_arg_matches(given.matches())?)
    }

    const WHOLE: &str = "out = \"o\"\nlabels = \"l\"\nbatch = 3\nseeds = [5, 6]\nfold = -1\n";

    #[test]
    fn a_file_says_what_flags_say_and_flags_go_over_it() {
        let read = given(WHOLE, &[]).expect("read");
        assert_eq!((read.out, read.labels), ("o".into(), "l".into()));
        assert_eq!(
            (read.batch, read.fold, read.every_fold),
            (3, Some(-1), false)
        );
        assert_eq!(read.seeds, [5, 6]);
        let flags = ["p", "--batch", "4", "--seeds", "7"];
        let read = given(WHOLE, &flags).expect("read");
        assert_eq!((read.out, read.labels), ("p".into(), "l".into()));
        assert_eq!((read.batch, read.seeds), (4, vec![7]));
        let read = given("out = \"o\"\nlabels = \"l\"\nevery_fold = true", &[]);
        let read = read.expect("read");
        assert_eq!((read.batch, read.every_fold), (8, true));
        assert_eq!(read.seeds, [0, 1]);
    }

    #[test]
    fn what_a_file_says_wrongly_is_named_with_the_file_and_the_key() {
        let whole = |more: &str| format!("out = \"o\"\nlabels = \"l\"\n{more}\n");
        for (toml, flags, words) in [
            (
                "batsh = 1\nsedes = 2",
                &[][..],
                "a.toml: batsh, sedes: no such argument",
            ),
            (
                "config = \"b.toml\"",
                &[],
                "a.toml: config: no such argument",
            ),
            (
                "batch = \"many\"",
                &[],
                "a.toml: batch: invalid value 'many'",
            ),
            (
                "batch = [1, 2]",
                &[],
                "a.toml: batch: the argument '--batch",
            ),
            ("batch = { a = 1 }", &[], "a.toml: batch: must be a value"),
            ("seeds = []", &[], "a.toml: seeds: is an empty list"),
            (
                "every_fold = 1",
                &[],
                "a.toml: every_fold: must be true or false, not 1",
            ),
            (
                "fold = 1\nevery_fold = true",
                &[],
                "a.toml: fold: the argument",
            ),
            ("fold = 1", &["--every-fold"], "a.toml: fold: the argument"),
            ("batch = ", &[], "a.toml: "),
        ] {
            let error = given(&whole(toml), flags).err().expect(toml);
            let text = one_line(&*error);
            assert!(!error.is::<clap::Error>(), "{toml}: {text}");
            assert!(text.contains(words), "{toml}: {text}");
        }
        // A flag's own fault, and what neither says, are clap's to explain.
        for (toml, flag) in [(WHOLE, "--batch=many"), ("out = \"o\"", "--batch=1")] {
            let error = given(toml, &[flag]).err().expect(flag);
            assert!(error.is::<clap::Error>(), "{flag}: {error}");
        }
    }
}
