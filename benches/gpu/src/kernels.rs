//! Every kernel against its definition.

#![allow(clippy::print_stdout)]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use candle_core::Device;
use mtcae_kernels::cuda::checks::{Machine, Scale, families, run_family};
use mtcae_kernels::cuda::{Element, Launch, Pointer};

use crate::Fault;

/// Which kernels are checked, and how.
pub struct Which<'a> {
    pub elements: &'a [Element],
    /// All where none is named.
    pub families: &'a [String],
    /// Of attention: the heads, as they are compiled; all where none is named.
    pub heads: &'a [usize],
    pub scale: Scale,
    /// How long a launch may take.
    pub patience: Duration,
}

/// Prints every finding.
#[cfg(feature = "cuda")]
pub fn check(device: &Device, which: &Which<'_>) -> Result<bool, Fault> {
    let Device::Cuda(device) = device else {
        return Err("kernels: a GPU is needed".into());
    };
    check_on(mtcae_nn::checks::Gpu::new(device), which, &hangs)
}

/// There are no kernels without CUDA.
#[cfg(not(feature = "cuda"))]
pub fn check(_: &Device, _: &Which<'_>) -> Result<bool, Fault> {
    Err("kernels: this build has no CUDA; build with `--features cuda`".into())
}

/// A kernel that does not come back takes its process with it: whoever waited for it would
/// wait for ever, at the end of the process too.
#[cfg(feature = "cuda")]
fn hangs(kernel: &str, patience: Duration) {
    use rustix::process::{Signal, getpid, kill_process};
    println!(
        "FAILED {kernel}: it has not come back after {} s; the process ends",
        patience.as_secs()
    );
    if kill_process(getpid(), Signal::KILL).is_err() {
        std::process::abort();
    }
}

/// `hangs` is told of a launch that has not come back in time.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
fn check_on<M: Machine>(
    machine: M,
    which: &Which<'_>,
    hangs: &(dyn Fn(&str, Duration) + Sync),
) -> Result<bool, Fault> {
    let watched = Watched {
        machine,
        running: Arc::default(),
    };
    let done = Mutex::new(false);
    let (running, done) = (watched.running.clone(), &done);
    std::thread::scope(|scope| {
        scope.spawn(move || watch(&running, done, which.patience, hangs));
        let result = findings(&watched, which);
        *done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        result
    })
}

fn findings<M: Machine>(machine: &M, which: &Which<'_>) -> Result<bool, Fault> {
    let mut good = true;
    for &element in which.elements {
        let known = families(element);
        let all = which.families.is_empty();
        let named = |family: &str| which.families.iter().any(|f| f == family);
        if let Some(unknown) = which.families.iter().find(|f| !known.contains(&f.as_str())) {
            let (of, known) = (element.suffix(), known.join(", "));
            return Err(format!("{unknown} is not one of the families of {of}: {known}").into());
        }
        for family in known.iter().filter(|family| all || named(family)) {
            let (heads, scale) = (which.heads, which.scale);
            run_family(machine, element, family, heads, scale, &mut |finding| {
                println!("{finding}");
                good &= finding.passed();
            })?;
        }
    }
    Ok(good)
}

/// The launch that runs, since when.
type Running = Arc<Mutex<Option<(String, Instant)>>>;

/// A machine that says which launch it is at.
struct Watched<M> {
    machine: M,
    running: Running,
}

impl<M: Machine> Machine for Watched<M> {
    type Memory = M::Memory;

    fn upload(&self, bytes: &[u8]) -> Result<Self::Memory, String> {
        self.machine.upload(bytes)
    }

    fn pointer(&self, memory: &Self::Memory) -> Pointer {
        self.machine.pointer(memory)
    }

    fn download(&self, memory: &Self::Memory) -> Result<Vec<u8>, String> {
        self.machine.download(memory)
    }

    unsafe fn run(&self, launch: &Launch) -> Result<(), String> {
        let at = |running| *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
        at(Some((launch.function.clone(), Instant::now())));
        // SAFETY: the caller promises what the machine asks for.
        let result = unsafe { self.machine.run(launch) };
        at(None);
        result
    }
}

/// Looks at what runs until all is done, or a launch has taken too long.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
fn watch(
    running: &Running,
    done: &Mutex<bool>,
    patience: Duration,
    hangs: &dyn Fn(&str, Duration),
) {
    while !*done.lock().unwrap_or_else(PoisonError::into_inner) {
        let now = running.lock().unwrap_or_else(PoisonError::into_inner);
        let late = now.clone().filter(|(_, since)| since.elapsed() > patience);
        drop(now);
        if let Some((kernel, _)) = late {
            hangs(&kernel, patience);
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs nothing; a launch of one kernel takes its time.
    struct Slow;

    impl Machine for Slow {
        type Memory = Vec<u8>;

        fn upload(&self, bytes: &[u8]) -> Result<Self::Memory, String> {
            Ok(bytes.to_vec())
        }

        fn pointer(&self, _: &Self::Memory) -> Pointer {
            Pointer::NONE
        }

        fn download(&self, memory: &Self::Memory) -> Result<Vec<u8>, String> {
            Ok(memory.clone())
        }

        unsafe fn run(&self, launch: &Launch) -> Result<(), String> {
            if launch.function.starts_with("cross_entropy_backward") {
                std::thread::sleep(Duration::from_millis(400));
            }
            Ok(())
        }
    }

    fn which<'a>(families: &'a [String], patience: u64) -> Which<'a> {
        Which {
            elements: &[Element::Bf16],
            families,
            heads: &[],
            scale: Scale::Small,
            patience: Duration::from_millis(patience),
        }
    }

    #[test]
    fn a_launch_that_does_not_come_back_is_named() {
        let said = Mutex::new(Vec::new());
        let hangs = |kernel: &str, _: Duration| {
            said.lock().expect("no panic").push(kernel.to_owned());
        };
        let family = ["cross_entropy".to_owned()];
        check_on(Slow, &which(&family, 100), &hangs).expect("it runs");
        let said = said.into_inner().expect("no panic");
        assert_eq!(said, ["cross_entropy_backward_bf16"]);
    }

    #[test]
    fn only_what_is_named_is_checked_and_nothing_that_is_not_there() {
        let family = ["tubes".to_owned()];
        let nothing = |_: &str, _: Duration| {};
        // Nothing was computed, so nothing is right.
        assert!(!check_on(Slow, &which(&family, 10_000), &nothing).expect("it runs"));
        let unknown = ["adamw".to_owned()];
        let error = check_on(Slow, &which(&unknown, 10_000), &nothing).expect_err("f32 alone");
        assert!(error.to_string().contains("families of bf16"), "{error}");
    }
}
