//! What figures are measured on and with, to be said above every table.

use std::time::Instant;

use mtcae_kernels::format::{Factors, Format};
use mtcae_kernels::isa::{Isa, IsaError, VARIABLE};
use mtcae_kernels::peak;

/// Operations a second of all threads of rayon's current pool, on registers alone: the
/// multiply-adds that a format's products are made of.
pub fn ceiling(format: Format) -> f64 {
    let loops = loops(format);
    let start = Instant::now();
    let done: Vec<f64> = rayon::broadcast(|_| peak::operations(format, loops));
    done.iter().sum::<f64>() / start.elapsed().as_secs_f64()
}

/// As [`ceiling`], of the calling thread alone.
fn ceiling_of_one(format: Format) -> f64 {
    let loops = loops(format);
    let start = Instant::now();
    peak::operations(format, loops) / start.elapsed().as_secs_f64()
}

/// As many as take a tenth of a second or so.
fn loops(format: Format) -> usize {
    (8e9 / peak::operations(format, 1)) as usize
}

/// The middle one of some measurements.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Lines that each begin with what they say and a colon: the CPU, the instruction set in
/// use, the threads, for either kind of factors what registers alone reach, and the
/// version.
///
/// # Errors
/// When the process cannot be held to the instruction set that it is to be held to.
pub fn lines() -> Result<Vec<String>, IsaError> {
    let held = Isa::held()?.name();
    let all: Vec<&str> = Isa::of_cpu().iter().map(|isa| isa.name()).collect();
    let threads = rayon::current_num_threads();
    let asked = match held == all[0] {
        true => "the best of this CPU".to_owned(),
        false => format!("by {VARIABLE}; this CPU has {} too", all[0]),
    };
    let mut lines = vec![
        format!("CPU: {}", cpu()),
        format!("instruction set: {held}, {asked}"),
        format!("threads: {threads}"),
    ];
    for (name, factors) in [("f32", Factors::F32), ("bf16", Factors::Bf16)] {
        lines.push(match Format::new(factors) {
            None => format!("{name}: none on this instruction set"),
            Some(format) => {
                // The best of several: what else runs takes from some of them.
                let (mut one, mut all) = (0.0f64, 0.0f64);
                for _ in 0..5 {
                    one = one.max(ceiling_of_one(format) / 1e9);
                    all = all.max(ceiling(format) / 1e9);
                }
                format!(
                    "{name}: {}, registers alone {one:.0} GFLOP/s on one thread, {all:.0} on {threads}",
                    format.name()
                )
            }
        });
    }
    lines.push(format!("mtcae: {}", env!("CARGO_PKG_VERSION")));
    Ok(lines)
}

/// The CPU's name with family and model, since a virtual machine's name may tell nothing,
/// and its cores; from Linux's `/proc/cpuinfo`.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |key: &str| {
        let fields = info.lines().filter_map(|line| line.split_once(':'));
        let mut found = fields.filter(|(name, _)| name.trim() == key);
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    let name = of("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let parts = [
        ("vendor_id", ""),
        ("cpu family", "family "),
        ("model", "model "),
        ("stepping", "stepping "),
        ("CPU implementer", "implementer "),
        ("CPU part", "part "),
    ];
    let parts = parts
        .iter()
        .filter_map(|(key, word)| Some(format!("{word}{}", of(key)?)));
    let parts: Vec<String> = parts.collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{name} ({}), {cores} cores", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_set_and_the_rates_are_said() {
        let lines = lines().expect("the tests run on it");
        for what in [
            "CPU: ",
            "instruction set: ",
            "threads: ",
            "f32: ",
            "bf16: ",
            "mtcae: ",
        ] {
            assert_eq!(
                lines.iter().filter(|l| l.starts_with(what)).count(),
                1,
                "{what}"
            );
        }
        let best = Isa::best().name();
        assert!(
            lines[1].contains(best) && lines[3].contains("GFLOP/s"),
            "{lines:?}"
        );
    }
}
