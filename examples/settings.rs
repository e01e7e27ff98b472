//! Training settings from a recipe, a TOML file and flags, the later over the
//! earlier. Flags and TOML fields are those of `TrainConfig`; nothing is listed
//! twice.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource, value_parser};
use mtcae_train::{FIELDS, Recipe, TrainConfig};
use toml::{Table, Value};

use crate::{Fault, one_line};

/// Adds `--config` and a flag for each setting.
pub fn with_settings(command: Command) -> Command {
    let (paper, videomae) = (defaults(Recipe::Paper), defaults(Recipe::Videomae));
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE.toml")
        .value_parser(value_parser!(PathBuf))
        .help("Settings by the names of the flags, with _ for -; flags go over them")
        .help_heading("Settings");
    let flags = FIELDS.iter().map(|field| {
        let shown = match (paper.get(field.name), videomae.get(field.name)) {
            (Some(a), Some(b)) if a != b => format!("[paper: {}, videomae: {}]", bare(a), bare(b)),
            (Some(a), _) => format!("[default: {}]", bare(a)),
            (None, _) => String::new(),
        };
        let arg = Arg::new(field.name)
            .long(field.name.replace('_', "-"))
            .value_name(match paper.get(field.name) {
                Some(Value::Boolean(_)) => "true|false",
                Some(Value::String(_)) => "NAME",
                Some(Value::Integer(_)) => "N",
                _ => "X",
            })
            .help(format!("{} {shown}", field.help))
            .help_heading("Settings");
        match paper.get(field.name) {
            Some(Value::Boolean(_)) => arg.num_args(0..=1).default_missing_value("true"),
            _ => arg,
        }
    });
    command.arg(file).args(flags)
}

/// A whole program: arguments of its own and the settings, an error in one line.
#[allow(clippy::print_stderr)]
pub fn program<A: Args + FromArgMatches>(
    name: &'static str,
    run: impl FnOnce(&A, TrainConfig) -> Result<(), Fault>,
) -> ExitCode {
    let command = with_settings(A::augment_args(Command::new(name)));
    let matches = command.version(env!("CARGO_PKG_VERSION")).get_matches();
    let result = A::from_arg_matches(&matches)
        .map_err(Fault::from)
        .and_then(|args| run(&args, settings(&matches)?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The settings that a command line asks for.
///
/// # Errors
/// Names the flag, or the file and the field, that cannot be used.
pub fn settings(matches: &ArgMatches) -> Result<TrainConfig, String> {
    let mut given = Table::new();
    let mut origin = String::from("flags");
    if let Some(path) = matches.get_one::<PathBuf>("config") {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        given = text.parse().map_err(|e: toml::de::Error| {
            format!("{}: {}", path.display(), e.to_string().replace('\n', " "))
        })?;
        origin = path.display().to_string();
    }
    let known = defaults(Recipe::Paper);
    for field in FIELDS {
        if matches.value_source(field.name) != Some(ValueSource::CommandLine) {
            continue;
        }
        let Some(text) = matches.get_one::<String>(field.name) else {
            continue;
        };
        let value = match known.get(field.name) {
            Some(Value::String(_)) => Some(Value::String(text.clone())),
            Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
            Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
            _ => text.parse().ok().map(Value::Float),
        };
        let flag = field.name.replace('_', "-");
        let value = value.ok_or_else(|| format!("--{flag}: {text:?} cannot be read"))?;
        given.insert(field.name.to_owned(), value);
    }
    let recipe = match given.get("recipe").and_then(Value::as_str) {
        None | Some("paper") => Recipe::Paper,
        Some("videomae") => Recipe::Videomae,
        Some(other) => return Err(format!("recipe: {other:?} is neither paper nor videomae")),
    };
    let mut table = defaults(recipe);
    for (name, value) in given {
        // TOML writes whole numbers without a point.
        let value = match (table.get(&name), value) {
            (Some(Value::Float(_)), Value::Integer(n)) => Value::Float(n as f64),
            (_, value) => value,
        };
        table.insert(name, value);
    }
    let config: TrainConfig = table
        .try_into()
        .map_err(|e| format!("{origin}: {}", e.to_string().replace('\n', " ")))?;
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}

/// The settings as TOML.
pub fn to_toml(config: &TrainConfig) -> String {
    toml::to_string(config).unwrap_or_default()
}

fn defaults(recipe: Recipe) -> Table {
    // Every setting is a number, a name or a yes or no, which TOML can write.
    Table::try_from(TrainConfig::recipe(recipe)).unwrap_or_default()
}

fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Result<TrainConfig, String> {
        let command = with_settings(Command::new("test"));
        let matches = command
            .try_get_matches_from(line)
            .map_err(|e| e.to_string())?;
        settings(&matches)
    }

    #[test]
    fn flags_go_over_the_file_and_the_file_over_the_recipe() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.toml");
        std::fs::write(&file, "recipe = \"videomae\"\nlr = 1\nepochs = 7\n").expect("written");
        let file = file.to_str().expect("text");
        let config = read(&["test", "--config", file, "--epochs", "9", "--flip", "false"]);
        let config = config.expect("read");
        assert_eq!((config.lr, config.epochs, config.flip), (1.0, 9, false));
        assert_eq!(config.layer_decay, 0.75);
    }

    #[test]
    fn an_unknown_key_and_a_bad_value_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.toml");
        std::fs::write(&file, "epocs = 7\n").expect("written");
        let error = read(&["test", "--config", file.to_str().expect("text")]);
        let error = error.expect_err("unknown");
        assert!(
            error.contains("epocs") && error.contains("a.toml"),
            "{error}"
        );
        assert!(
            read(&["test", "--lr", "fast"])
                .expect_err("bad")
                .contains("--lr")
        );
        assert!(
            read(&["test", "--smoothing", "2"])
                .expect_err("bad")
                .contains("smoothing")
        );
    }
}
