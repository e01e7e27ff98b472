//! The one pool that a program computes in.

use mtcae_ranks::Launch;

/// What says the number of threads where no argument does.
const RAYON: &str = "RAYON_NUM_THREADS";

/// The most threads that a program starts.
const MOST: usize = 1024;

/// Makes the pool of all of the process: `threads`, or as many as
/// `RAYON_NUM_THREADS` says, or one a core. What computes,
/// resizes or looks for faces runs in it; FFmpeg's decoders have as many threads,
/// and so has Candle's pool of elementwise operations, whose threads sleep while
/// it has none instead of spinning beside ours. `CANDLE_NUM_THREADS` and
/// `CANDLE_BARRIER_POOL_SPIN_LIMIT` are kept where they are set.
///
/// The first thing that a program does: where other threads run already, Candle's
/// pool stays as it is, since its size is read from the environment alone.
///
/// # Errors
/// When `threads`, or `RAYON_NUM_THREADS` in its place, is no number from 1 to
/// [`MOST`], or the system refuses to start them.
pub fn limit_threads(threads: Option<usize>) -> Result<(), String> {
    limit(threads, cores()).map(drop)
}

/// The same of a program that trains: memory that a step frees is kept for the next, and one of
/// several processes that a launcher has started has by default its share of the host's cores.
/// Gives how many threads it has.
///
/// # Errors
/// As [`limit_threads`].
pub fn limit_threads_of_training(
    threads: Option<usize>,
    launch: Option<&Launch>,
) -> Result<usize, String> {
    mtcae_nn::plan::keep_freed();
    let share = launch.map_or(cores(), |launch| launch.threads(online(), cores()));
    limit(threads, share)
}

fn limit(threads: Option<usize>, default: usize) -> Result<usize, String> {
    let variable = std::env::var_os(RAYON).filter(|text| !text.is_empty());
    let (name, text) = match (threads, variable) {
        (Some(n), _) => ("--threads", n.to_string()),
        (None, Some(text)) => (RAYON, text.to_string_lossy().into_owned()),
        (None, None) => ("a thread a core:", default.to_string()),
    };
    let n = text.parse().ok().filter(|n| (1..=MOST).contains(n));
    let n =
        n.ok_or_else(|| format!("{name} must be at least 1 and at most {MOST}, not {text:?}"))?;
    if is_alone() {
        set("CANDLE_NUM_THREADS", &n.to_string());
        set("CANDLE_BARRIER_POOL_SPIN_LIMIT", "1");
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build_global()
        .map_err(|e| format!("{name} {n}: {e}"))?;
    Ok(n)
}

/// A thread a core, as far as a pool goes.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| usize::from(n).min(MOST))
}

/// The host's cores, whether or not this process may use them all, as far as the system says.
fn online() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let ranges = text.split(',').map(|range| match range.split_once('-') {
        Some((first, last)) => Some((number(last)? + 1).saturating_sub(number(first)?)),
        None => number(range).map(|_| 1),
    });
    ranges.sum::<Option<usize>>().unwrap_or(0).max(cores())
}

/// Whether this thread is the process's only one, as far as the system says.
fn is_alone() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task");
    cfg!(target_os = "linux") && tasks.is_ok_and(|tasks| tasks.count() == 1)
}

/// Sets a variable that is not set. For [`limit_threads`] alone.
fn set(name: &str, value: &str) {
    if std::env::var_os(name).is_none() {
        // SAFETY: `is_alone`, so no other thread reads or writes the environment.
        unsafe { std::env::set_var(name, value) };
    }
}
