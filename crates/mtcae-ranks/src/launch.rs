//! What the program that started the ranks says of them, by the environment.

use crate::Error;

/// What a launcher says of the ranks that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Who says so.
    pub launcher: Launcher,
    /// How many ranks there are.
    pub ranks: usize,
    /// The number of this one, where that is said.
    pub rank: Option<usize>,
    /// How many of them are on this host, where that is said.
    pub here: Option<usize>,
    /// The number of this one among those of its host, where that is said.
    pub place: Option<usize>,
}

/// Programs that start ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// Another `mpirun` or `srun`, which speaks PMI.
    Pmi,
    /// Slurm's `srun`.
    Slurm,
    /// A launcher that sets `RANK` and `WORLD_SIZE`, as `torchrun` does.
    World,
}

/// Variables that say how many ranks there are, which this is, how many are here, and which of
/// these this is.
const VARIABLES: [(Launcher, &str, [&str; 3]); 4] = [
    (
        Launcher::OpenMpi,
        "OMPI_COMM_WORLD_SIZE",
        [
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_LOCAL_SIZE",
            "OMPI_COMM_WORLD_LOCAL_RANK",
        ],
    ),
    (
        Launcher::Pmi,
        "PMI_SIZE",
        ["PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"],
    ),
    (
        Launcher::Slurm,
        "SLURM_STEP_NUM_TASKS",
        ["SLURM_PROCID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID"],
    ),
    (
        Launcher::World,
        "WORLD_SIZE",
        ["RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK"],
    ),
];

impl std::fmt::Display for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OpenMpi => "mpirun",
            Self::Pmi => "an MPI launcher",
            Self::Slurm => "srun",
            Self::World => "a launcher that sets WORLD_SIZE",
        })
    }
}

impl Launch {
    /// What the environment of this process says; none where one process was started alone.
    ///
    /// # Errors
    /// Names the variable that is no number.
    pub fn found() -> Result<Option<Self>, Error> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// The same, of other variables than the process's own.
    ///
    /// # Errors
    /// As there.
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        for (launcher, ranks, [rank, here, place]) in VARIABLES {
            // An empty one counts as not set.
            let Some(text) = get(ranks).filter(|text| !text.is_empty()) else {
                continue;
            };
            let number = text.parse().ok().filter(|n| *n > 0);
            let ranks = number.ok_or_else(|| Error::Variable {
                variable: ranks,
                reason: format!("must say how many ranks there are, not {text:?}"),
            })?;
            if ranks == 1 {
                continue;
            }
            let said = |name| get(name).and_then(|text| leading(&text));
            return Ok(Some(Self {
                launcher,
                ranks,
                rank: said(rank),
                here: said(here).filter(|n| *n > 0),
                place: said(place),
            }));
        }
        Ok(None)
    }

    /// Threads for each rank of a host with so many cores, of which this process may use some:
    /// a launcher that binds ranks to cores has divided them already.
    pub fn threads(&self, cores: usize, usable: usize) -> usize {
        usable.min(cores / self.here.unwrap_or(1)).max(1)
    }
}

/// The number that a text begins with, as that of `4(x2)` in Slurm's.
fn leading(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    text[..digits.unwrap_or(text.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Launch>, Error> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Launch::of(get)
    }

    #[test]
    fn each_launcher_says_how_many_ranks_there_are() {
        let found = of(&[
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ]);
        let want = Launch {
            launcher: Launcher::OpenMpi,
            ranks: 4,
            rank: Some(3),
            here: Some(2),
            place: Some(1),
        };
        assert_eq!(found, Ok(Some(want)));
        let found = of(&[
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_STEP_TASKS_PER_NODE", "4(x2)"),
        ]);
        let found = found.expect("numbers").expect("a launch");
        assert_eq!((found.launcher, found.here), (Launcher::Slurm, Some(4)));
        let found = of(&[("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")]);
        let found = found.expect("numbers").expect("a launch");
        assert_eq!((found.launcher, found.place), (Launcher::World, Some(1)));
    }

    #[test]
    fn one_rank_is_none_and_what_is_no_number_is_named() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("PMI_SIZE", "1"), ("WORLD_SIZE", "")]), Ok(None));
        let error = of(&[("WORLD_SIZE", "two")]).expect_err("no number");
        assert_eq!(
            error.to_string(),
            "WORLD_SIZE: must say how many ranks there are, not \"two\""
        );
    }

    #[test]
    fn cores_are_divided_once() {
        let launch = |here| Launch {
            launcher: Launcher::OpenMpi,
            ranks: 8,
            rank: None,
            here,
            place: None,
        };
        // Free to use all, bound to one, bound to a socket of two; one rank a host.
        assert_eq!(launch(Some(4)).threads(64, 64), 16);
        assert_eq!(launch(Some(4)).threads(64, 1), 1);
        assert_eq!(launch(Some(8)).threads(64, 32), 8);
        assert_eq!(launch(None).threads(64, 64), 64);
        assert_eq!(launch(Some(4)).threads(2, 2), 1);
    }
}
