//! Training settings from a recipe, a TOML file and flags, the later over the
//! earlier. Flags and TOML fields are those of `TrainConfig`; nothing is listed
//! twice.

use std::ffi::OsString;

use clap::{Arg, Args, Command};
use mtcae_core::ParseError;
use mtcae_train::{Error, Recipe, Task, TrainConfig};
use toml::{Table, Value};

use crate::Fault;
use crate::config::{self, Given};

/// The command line of a program: these arguments, `--config` and a flag for each
/// setting of what it trains.
///
/// # Errors
/// As [`defaults`].
pub fn command<A: Args>(name: &'static str, task: Task) -> Result<Command, Fault> {
    let of_recipe = |recipe| Ok((recipe, defaults(recipe)?));
    let recipes = task.recipes().map(of_recipe);
    let recipes: Vec<(Recipe, Table)> = recipes.collect::<Result<_, Fault>>()?;
    let paper = defaults(Recipe::Paper)?;
    let names: Vec<&str> = task.recipes().map(Recipe::name).collect();
    let flags = task.fields().map(|field| {
        let shown = shown(field.name, &recipes);
        let arg = Arg::new(field.name)
            .long(field.name.replace('_', "-"))
            .value_name(match paper.get(field.name) {
                Some(Value::Boolean(_)) => "true|false",
                Some(Value::String(_)) => "NAME",
                Some(Value::Integer(_)) => "N",
                _ => "X",
            })
            .help(match field.name {
                "recipe" => format!("{}: {} {shown}", field.help, names.join(", ")),
                _ => format!("{} {shown}", field.help),
            })
            .help_heading("Settings");
        match paper.get(field.name) {
            Some(Value::Boolean(_)) => arg.num_args(0..=1).default_missing_value("true"),
            _ => arg,
        }
    });
    Ok(config::command::<A>(name).args(flags))
}

/// Runs a program on its arguments and the settings, from flags and a file.
pub fn main<A: Args>(
    command: Command,
    line: Vec<OsString>,
    task: Task,
    run: impl FnOnce(&A, TrainConfig) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    config::main(command, line, |given| {
        run(
            &A::from_arg_matches(given.matches())?,
            settings(given, task)?,
        )
    })
}

/// The settings that are asked for.
///
/// # Errors
/// Names the flag, or the file and the field, that cannot be used.
pub fn settings(given: &Given, task: Task) -> Result<TrainConfig, String> {
    let known = || task.recipes().map(Recipe::name).collect::<Vec<_>>();
    let recipe = match text(given, "recipe") {
        None => task.recipes().next().unwrap_or(Recipe::Paper),
        Some(name) => {
            let found = name.parse::<Recipe>().ok();
            let found = found.filter(|recipe| recipe.task() == task);
            found.ok_or_else(|| {
                let origin = given.origin("recipe");
                let known = ParseError::new("recipe", name, &known().join(", "));
                format!("{origin}: {known}")
            })?
        }
    };
    let mut config = TrainConfig::recipe(recipe);
    let mut table = defaults(recipe).map_err(|e| e.to_string())?;
    for (name, value) in given_alone(given, task)? {
        table.insert(name.to_owned(), value);
        // One after the other, so that an error is this field's.
        config = table
            .clone()
            .try_into()
            .map_err(|e: toml::de::Error| format!("{}: {}", given.origin(name), e.message()))?;
    }
    match config.validate() {
        Ok(()) => Ok(config),
        Err(Error::Config { field, reason }) => Err(format!("{}: {reason}", given.origin(field))),
        Err(other) => Err(other.to_string()),
    }
}

/// Those that are given, without the recipe's, in the order of the settings.
///
/// # Errors
/// Names the flag, or the file and the field, that is of another type.
pub fn given_alone(given: &Given, task: Task) -> Result<Vec<(&'static str, Value)>, String> {
    let table = defaults(Recipe::Paper).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    for field in task.fields() {
        let Some(text) = text(given, field.name) else {
            continue;
        };
        let value = match table.get(field.name) {
            Some(Value::String(_)) => Some(Value::String(text.clone())),
            Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
            Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
            _ => text.parse().ok().map(Value::Float),
        };
        let fault = || {
            let origin = given.origin(field.name);
            format!("{origin}: {text:?} is not a value of this setting")
        };
        found.push((field.name, value.ok_or_else(fault)?));
    }
    Ok(found)
}

fn text<'a>(given: &'a Given, name: &str) -> Option<&'a String> {
    let text = given.matches().get_one::<String>(name);
    text.filter(|_| given.is_given(name))
}

/// The settings of what is trained as TOML.
///
/// # Errors
/// When one of them has no place in TOML.
pub fn to_toml(config: &TrainConfig) -> Result<String, Fault> {
    let mut all = Table::try_from(config)?;
    let fields = config.recipe.task().fields();
    let own = fields.filter_map(|field| all.remove(field.name).map(|value| (field.name, value)));
    // One after the other, in the order of the settings.
    let lines = own.map(|(name, value)| Ok(format!("{name} = {value}\n")));
    lines.collect()
}

/// The settings of a recipe, as a table.
///
/// # Errors
/// As [`to_toml`].
fn defaults(recipe: Recipe) -> Result<Table, toml::ser::Error> {
    Table::try_from(TrainConfig::recipe(recipe))
}

/// The default of a setting, and those of the recipes that have others.
fn shown(field: &str, recipes: &[(Recipe, Table)]) -> String {
    let mut values: Vec<(String, Vec<&str>)> = Vec::new();
    for (recipe, table) in recipes {
        let value = table.get(field).map(bare).unwrap_or_default();
        // Each recipe is its own.
        if field == "recipe" && !values.is_empty() {
            continue;
        }
        match values.iter_mut().find(|(known, _)| *known == value) {
            Some((_, of)) => of.push(recipe.name()),
            None => values.push((value, vec![recipe.name()])),
        }
    }
    let word = |value: &str| match value {
        "" => "none".to_owned(),
        value => value.to_owned(),
    };
    let mut values = values.into_iter();
    let first = values.next().map(|(value, _)| word(&value));
    let others = values.map(|(value, of)| format!("{}: {}", of.join(", "), word(&value)));
    let parts = first.into_iter().chain(others).collect::<Vec<_>>();
    format!("[default: {}]", parts.join("; "))
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
        #[derive(clap::Args)]
        struct Nothing {}
        let line = line.iter().map(Into::into).collect();
        let task = Task::Labelled;
        let command = command::<Nothing>("test", task).map_err(|e| e.to_string())?;
        let given = Given::read(command, line);
        settings(&given.map_err(|e| e.to_string())?, task)
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
        for (flag, value, begin) in [
            ("--lr", "fast", "--lr: \"fast\" is not a value"),
            ("--smoothing", "2", "--smoothing: must be in [0, 1)"),
            (
                "--schedule",
                "stepwise",
                "--schedule: unknown variant `stepwise`",
            ),
            (
                "--recipe",
                "pretrain-videomae",
                "--recipe: `pretrain-videomae` is no recipe; known: paper, videomae, mae-dfer",
            ),
            (
                "--recipe",
                "best",
                "--recipe: `best` is no recipe; known: paper, videomae, mae-dfer",
            ),
        ] {
            // A file that says other things is not to blame; one that says it is.
            std::fs::write(&file, "epochs = 7\n").expect("written");
            let flags = [
                "test",
                "--config",
                file.to_str().expect("text"),
                flag,
                value,
            ];
            let error = read(&flags).expect_err("bad");
            assert!(error.starts_with(begin), "{error}");
            let key = &flag[2..];
            let quoted = value
                .parse::<f64>()
                .map_or(format!("{value:?}"), |x| x.to_string());
            std::fs::write(&file, format!("{key} = {quoted}\n")).expect("written");
            let error = read(&flags[..3]).expect_err("bad");
            let begin = format!("{}: {}", file.display(), &begin[2..]);
            assert!(error.starts_with(&begin), "{error}");
        }
    }
}
