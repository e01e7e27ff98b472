//! What the benchmarks share. Run them with `cargo bench`; `docs/performance.md`
//! holds what they gave and on which machine.

pub mod machine;
pub mod operations;

use mtcae_nn::candle_core::{Device, Result, Tensor};

/// Numbers in [−1, 1) that are the same in every run, without a generator.
pub fn tensor(shape: &[usize]) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let data: Vec<f32> = (0..n as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// The most memory that this process has had resident, in bytes; 0 where the
/// system does not say (it is read from Linux's `/proc/self/status`).
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// The processor time that this process's living threads have had, in seconds; 0
/// where the system does not say (Linux's `/proc/self/task/*/schedstat`). Other
/// work on the machine disturbs it less than wall time.
pub fn processor_time() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0.0;
    };
    let nanoseconds = |path: std::path::PathBuf| -> Option<f64> {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    let times = tasks.flatten().filter_map(|task| nanoseconds(task.path()));
    times.sum::<f64>() * 1e-9
}
