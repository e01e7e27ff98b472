//! What `nvidia-smi` says of a GPU while it works.

use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Clock, power and what holds the clock back.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub megahertz: String,
    pub watts: String,
    pub throttled: String,
}

/// The GPU that `cuda:N` is, as `nvidia-smi -i` takes it.
pub fn gpu(device: &str) -> String {
    let ordinal = device.strip_prefix("cuda:").unwrap_or("0");
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let index: usize = ordinal.parse().unwrap_or(0);
    let chosen = visible.split(',').map(str::trim).nth(index);
    chosen
        .filter(|name| !name.is_empty())
        .unwrap_or(ordinal)
        .to_owned()
}

/// Asks after a while, in a thread: nothing where there is no `nvidia-smi`.
pub fn sample_after(gpu: &str, wait: Duration) -> JoinHandle<Option<Sample>> {
    let gpu = gpu.to_owned();
    thread::spawn(move || {
        thread::sleep(wait);
        parse(&query(
            &gpu,
            "clocks.sm,power.draw,clocks_event_reasons.active",
        )?)
    })
}

/// What `nvidia-smi` says to a query, without units.
pub fn query(gpu: &str, fields: &str) -> Option<String> {
    let output = Command::new("nvidia-smi")
        .args(["-i", gpu, "--format=csv,noheader,nounits"])
        .arg(format!("--query-gpu={fields}"))
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(said)
}

fn parse(line: &str) -> Option<Sample> {
    let mut fields = line.split(',').map(str::trim);
    let (megahertz, watts, reasons) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Sample {
        megahertz: megahertz.to_owned(),
        watts: watts.to_owned(),
        throttled: throttled(reasons),
    })
}

/// The reasons of NVML's mask that slow a GPU down; idling and an application's own
/// clocks are none.
fn throttled(mask: &str) -> String {
    const REASONS: [(u64, &str); 6] = [
        (0x4, "power cap"),
        (0x8, "hardware"),
        (0x20, "heat (software)"),
        (0x40, "heat (hardware)"),
        (0x80, "power brake"),
        (0x10, "sync boost"),
    ];
    let digits = mask.trim_start_matches("0x");
    let Ok(mask) = u64::from_str_radix(digits, 16) else {
        return "?".to_owned();
    };
    let named: Vec<&str> = REASONS
        .iter()
        .filter(|(bit, _)| mask & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if named.is_empty() {
        "no".to_owned()
    } else {
        named.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slows_a_gpu_down_is_named() {
        let sample = parse("1755, 612.33, 0x0000000000000004").expect("three fields");
        let want = ["1755", "612.33", "power cap"];
        assert_eq!([sample.megahertz, sample.watts, sample.throttled], want);
        assert_eq!(throttled("0x0000000000000001"), "no");
        assert_eq!(
            throttled("0x0000000000000060"),
            "heat (software), heat (hardware)"
        );
        assert_eq!(throttled("[N/A]"), "?");
        assert_eq!(parse("1755"), None);
    }
}
