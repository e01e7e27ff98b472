//! The processes of a training, as a launcher has started them.

use std::time::Duration;

use mtcae_core::one_line;
use mtcae_dfer::Device;
use mtcae_nn::Isa;
use mtcae_ranks::{Launch, Launcher, Solo};
use mtcae_train::{Error, Ranks, TrainConfig};

use crate::output::{Said, clean_up_when_stopped};
use crate::threads::limit_threads_of_training;
use crate::{Fault, device, note};

/// This process among those that train together.
pub struct Job {
    launch: Option<Launch>,
    group: Connected,
}

/// What connects it with the others.
enum Connected {
    Alone,
    #[cfg(feature = "mpi")]
    Mpi(mtcae_ranks::Mpi),
    #[cfg(feature = "nccl")]
    Nccl {
        nccl: mtcae_ranks::Nccl,
        /// What the launcher is to see end after it.
        _mpi: Option<Box<dyn mtcae_ranks::Group>>,
    },
}

/// Trains: sets up threads and memory, joins the others where there are any, and tells them of a
/// fault. `work` is given the job, the device and whether to be quiet.
///
/// # Errors
/// When this process cannot join, or what `work` says.
pub fn in_a_job(
    threads: Option<usize>,
    device: &str,
    quiet: bool,
    work: impl FnOnce(&Job, &Device, bool) -> Result<(), Fault>,
) -> Result<(), Fault> {
    Isa::held()?;
    let launch = Launch::found()?;
    let threads = limit_threads_of_training(threads, launch.as_ref())?;
    clean_up_when_stopped()?;
    let (job, device) = Job::join(launch, device)?;
    let quiet = quiet || !job.is_first();
    if let Some(words) = job.in_words(threads).filter(|_| !quiet) {
        note!("{words}");
    }
    let outcome = work(&job, &device, quiet);
    job.end(outcome)
}

impl Job {
    /// Connects this process with the others that its launcher has started, and opens its
    /// device.
    ///
    /// # Errors
    /// When this build cannot connect to them, or the device cannot be opened. There is no
    /// training of each by itself.
    pub fn join(launch: Option<Launch>, name: &str) -> Result<(Self, Device), Fault> {
        let Some(known) = launch else {
            let group = Connected::Alone;
            return Ok((Self { launch, group }, device(name)?));
        };
        let gpus = name.starts_with("cuda");
        let group = match known.launcher {
            Launcher::World if !gpus => {
                return refuse(
                    known,
                    "WORLD_SIZE and RANK are for GPUs (--device cuda:0); on CPUs `mpirun -np N` \
                     starts ranks"
                        .to_owned(),
                );
            }
            Launcher::World => None,
            _ => Some(over_mpi(known)?),
        };
        let device = device(&of_rank(name, known))?;
        let group = connect(known, group, &device, gpus)?;
        Ok((Self { launch, group }, device))
    }

    /// For the trainer.
    pub fn ranks(&self) -> Ranks<'_> {
        match &self.group {
            Connected::Alone => Ranks::Any(&Solo),
            #[cfg(feature = "mpi")]
            Connected::Mpi(mpi) => Ranks::Any(mpi),
            #[cfg(feature = "nccl")]
            Connected::Nccl { nccl, .. } => Ranks::Gpus(nccl),
        }
    }

    /// Whether this one speaks for all.
    pub fn is_first(&self) -> bool {
        self.ranks().is_first()
    }

    /// Whether there are others.
    pub fn has_others(&self) -> bool {
        self.ranks().group().size() > 1
    }

    /// Makes sure that a step's batches can be dealt.
    ///
    /// # Errors
    /// Names the flag, and what would be right.
    pub fn check(&self, config: &TrainConfig) -> Result<(), Fault> {
        self.ranks().check(config).map_err(|e| match e {
            Error::Config { field, reason } => {
                let flags = reason.replace("`batch`", "--batch");
                let flags = flags.replace("`accumulate`", "--accumulate");
                format!("--{field} {flags}").into()
            }
            other => other.into(),
        })
    }

    /// What is said of the job once it begins; nothing of one process.
    pub fn in_words(&self, threads: usize) -> Option<String> {
        let launch = self.launch.as_ref()?;
        let here = launch
            .here
            .map_or(String::new(), |n| format!(", {n} on this host"));
        let each = if threads == 1 { "thread" } else { "threads" };
        Some(format!(
            "{} ranks{here}, {threads} {each} each (--threads)",
            launch.ranks
        ))
    }

    /// The end of this process's part. The others are told of a fault, and of those that all
    /// have only the first is said.
    ///
    /// # Errors
    /// The fault, with the rank.
    pub fn end(self, outcome: Result<(), Fault>) -> Result<(), Fault> {
        let Err(fault) = outcome else {
            return Ok(());
        };
        if !self.has_others() {
            return Err(fault);
        }
        let between = match fault.downcast_ref::<Error>() {
            // Whoever has failed has said so.
            Some(Error::Ranks(mtcae_ranks::Error::Stopped { .. })) => return Err(silent()),
            Some(Error::Ranks(_)) => true,
            _ => false,
        };
        let (group, reason) = (self.ranks().group(), one_line(&*fault));
        match (group.fail(&reason), between) {
            (false, _) => Err(silent()),
            (true, true) => Err(fault),
            (true, false) => Err(format!("rank {}: {reason}", group.rank()).into()),
        }
    }
}

/// The end of who has nothing to say. A launcher ends all once one has failed: whoever says why
/// is to be first.
fn silent() -> Fault {
    std::thread::sleep(Duration::from_secs(2));
    Said.into()
}

/// GPUs of a host are dealt to its ranks: `cuda:N` is that of the host's first.
fn of_rank(name: &str, launch: Launch) -> String {
    let first = name
        .strip_prefix("cuda:")
        .and_then(|n| n.parse::<usize>().ok());
    match first {
        Some(first) => format!("cuda:{}", first + launch.place.unwrap_or(0)),
        None => name.to_owned(),
    }
}

/// Said once: by the first of them, where they know which they are.
fn refuse<T>(launch: Launch, reason: String) -> Result<T, Fault> {
    match launch.rank {
        Some(0) | None => Err(reason.into()),
        Some(_) => Err(silent()),
    }
}

#[cfg(not(feature = "mpi"))]
enum NoMpi {}

#[cfg(not(feature = "mpi"))]
fn over_mpi(launch: Launch) -> Result<NoMpi, Fault> {
    let (launcher, ranks) = (launch.launcher, launch.ranks);
    refuse(
        launch,
        format!(
            "{launcher} has started {ranks} ranks, and this program is built without MPI: build \
             it with `--features mpi`, or start one"
        ),
    )
}

#[cfg(feature = "mpi")]
fn over_mpi(launch: Launch) -> Result<mtcae_ranks::Mpi, Fault> {
    use mtcae_ranks::Group;
    let mpi = mtcae_ranks::Mpi::start()?;
    let (found, ranks, launcher) = (mpi.size(), launch.ranks, launch.launcher);
    if found != ranks {
        let hint = match launcher {
            Launcher::Slurm => "; `srun --mpi=pmix` connects them",
            _ => ": is it another MPI's than this program is built with?",
        };
        return refuse(
            launch,
            format!("{launcher} has started {ranks} ranks, of which MPI knows {found}{hint}"),
        );
    }
    Ok(mpi)
}

#[cfg(not(feature = "nccl"))]
fn connect(
    launch: Launch,
    #[cfg(feature = "mpi")] mpi: Option<mtcae_ranks::Mpi>,
    #[cfg(not(feature = "mpi"))] mpi: Option<NoMpi>,
    _: &Device,
    _: bool,
) -> Result<Connected, Fault> {
    match mpi {
        #[cfg(feature = "mpi")]
        Some(mpi) => Ok(Connected::Mpi(mpi)),
        #[cfg(not(feature = "mpi"))]
        Some(never) => match never {},
        None => refuse(
            launch,
            format!(
                "{} says that there are {} ranks, and this program is built without NCCL: build \
                 it with `--features nccl`",
                launch.launcher, launch.ranks
            ),
        ),
    }
}

#[cfg(feature = "nccl")]
fn connect(
    _: Launch,
    #[cfg(feature = "mpi")] mpi: Option<mtcae_ranks::Mpi>,
    #[cfg(not(feature = "mpi"))] mpi: Option<NoMpi>,
    device: &Device,
    gpus: bool,
) -> Result<Connected, Fault> {
    use mtcae_ranks::{Meeting, Nccl};
    match mpi {
        #[cfg(feature = "mpi")]
        Some(mpi) if !gpus => Ok(Connected::Mpi(mpi)),
        #[cfg(feature = "mpi")]
        Some(mpi) => Ok(Connected::Nccl {
            nccl: Nccl::of(&mpi, device)?,
            _mpi: Some(Box::new(mpi)),
        }),
        #[cfg(not(feature = "mpi"))]
        Some(never) => match never {},
        None => {
            // On CPUs it has been refused.
            debug_assert!(gpus);
            Ok(Connected::Nccl {
                nccl: Nccl::meet(&Meeting::found()?, device)?,
                _mpi: None,
            })
        }
    }
}
