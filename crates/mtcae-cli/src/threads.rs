//! The one pool that a program computes in.

/// Makes the pool of all of the process: `threads`, or one a core. What computes,
/// resizes or looks for faces runs in it; FFmpeg's decoders have as many threads,
/// and so has Candle's pool of elementwise operations, whose threads sleep while
/// it has none instead of spinning beside ours. `CANDLE_NUM_THREADS` and
/// `CANDLE_BARRIER_POOL_SPIN_LIMIT` are kept where they are set.
///
/// The first thing that a program does: where other threads run already, Candle's
/// pool stays as it is, since its size is read from the environment alone.
///
/// # Errors
/// When `threads` is 0 or the system refuses to start them.
pub fn limit_threads(threads: Option<usize>) -> Result<(), String> {
    if threads == Some(0) {
        return Err("--threads must be at least 1".to_owned());
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let rayon = std::env::var("RAYON_NUM_THREADS").ok();
    let asked = threads.or_else(|| rayon?.parse().ok().filter(|&n| n > 0));
    let n = asked.unwrap_or_else(cores);
    if is_alone() {
        set("CANDLE_NUM_THREADS", &n.to_string());
        set("CANDLE_BARRIER_POOL_SPIN_LIMIT", "1");
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build_global()
        .map_err(|e| format!("--threads {n}: {e}"))
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
