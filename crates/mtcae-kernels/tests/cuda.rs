//! The kernels of `cuda/` against their definitions, without a GPU.

use mtcae_kernels::cuda::checks::{Machine, Scale, run_type};
use mtcae_kernels::cuda::{Element, Emulator, Launch};

/// The emulator on memory of its own.
struct OnHost;

impl Machine for OnHost {
    /// Twice as many bytes as `u128`s align.
    type Memory = (Box<[u128]>, usize);

    fn upload(&self, bytes: &[u8]) -> Result<Self::Memory, String> {
        let words = bytes.chunks(16).map(|chunk| {
            let mut word = [0; 16];
            word[..chunk.len()].copy_from_slice(chunk);
            u128::from_ne_bytes(word)
        });
        Ok((words.collect(), bytes.len()))
    }

    fn address(&self, memory: &Self::Memory) -> u64 {
        memory.0.as_ptr() as u64
    }

    fn download(&self, (words, len): &Self::Memory) -> Result<Vec<u8>, String> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        bytes.truncate(*len);
        Ok(bytes)
    }

    unsafe fn run(&self, launch: &Launch) -> Result<(), String> {
        // SAFETY: the caller promises what the emulator asks for.
        unsafe { Emulator.run(launch) }
    }
}

/// In tests of their own, which run side by side.
fn every_kernel_equals_its_definition(element: Element) {
    let (mut findings, mut failures) = (0, Vec::new());
    run_type(&OnHost, element, Scale::Small, &mut |finding| {
        findings += 1;
        if !finding.passed() {
            failures.push(format!(
                "{}: {:.1e} > {:.1e}",
                finding.what, finding.error, finding.bound
            ));
        }
    })
    .expect("every kernel runs");
    assert!(
        failures.is_empty(),
        "{} of {findings} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn every_kernel_equals_its_definition_in_f32() {
    every_kernel_equals_its_definition(Element::F32);
}

#[test]
fn every_kernel_equals_its_definition_in_bf16() {
    every_kernel_equals_its_definition(Element::Bf16);
}

#[test]
fn every_kernel_equals_its_definition_in_f16() {
    every_kernel_equals_its_definition(Element::F16);
}
