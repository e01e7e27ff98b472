//! Every kernel against its definition.

#![allow(clippy::print_stdout)]

use candle_core::Device;

use crate::Fault;

/// Prints every finding.
#[cfg(feature = "cuda")]
pub fn check(device: &Device, small: bool) -> Result<bool, Fault> {
    use mtcae_kernels::cuda::checks::{Scale, run};
    let Device::Cuda(device) = device else {
        return Err("kernels: a GPU is needed".into());
    };
    let scale = if small { Scale::Small } else { Scale::Model };
    let mut good = true;
    run(&mtcae_nn::checks::Gpu::new(device), scale, &mut |finding| {
        let verdict = if finding.passed() { "ok" } else { "FAILED" };
        println!(
            "{verdict:6} {:.1e} of {:.1e}  {}",
            finding.error, finding.bound, finding.what
        );
        good &= finding.passed();
    })?;
    Ok(good)
}

/// There are no kernels without CUDA.
#[cfg(not(feature = "cuda"))]
pub fn check(_: &Device, _: bool) -> Result<bool, Fault> {
    Err("kernels: this build has no CUDA; build with `--features cuda`".into())
}
