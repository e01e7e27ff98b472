//! Every kernel against its definition in `f64`, on any machine that runs launches.
//!
//! The same bodies run on a GPU and on the `Emulator`. Operands are rounded to the
//! kernel's type first, so that the deviation is the kernel's alone. Results start as
//! NaN with a guard behind them, everything runs twice, and both runs must agree to
//! the bit.

mod attention;
mod faces;
mod losses;
mod norms;
mod optimiser;
mod pixels;

use half::{bf16, f16};

use super::{Element, Launch, Unsupported};

/// What runs launches.
pub trait Machine {
    /// Memory of the machine.
    type Memory;
    /// Memory that holds these bytes, at a multiple of 16.
    ///
    /// # Errors
    /// When there is not enough.
    fn upload(&self, bytes: &[u8]) -> Result<Self::Memory, String>;
    /// Where it lies.
    fn address(&self, memory: &Self::Memory) -> u64;
    /// What it holds, after all launches before.
    ///
    /// # Errors
    /// When a launch before has failed.
    fn download(&self, memory: &Self::Memory) -> Result<Vec<u8>, String>;
    /// Runs a launch.
    ///
    /// # Errors
    /// When it cannot run.
    ///
    /// # Safety
    /// Every address must be that of memory of this machine as large as the operand.
    unsafe fn run(&self, launch: &Launch) -> Result<(), String>;
}

/// How large the problems are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Small and odd: every edge of a tile, in seconds on the emulator.
    Small,
    /// Those, and the model's own sizes: for a GPU.
    Model,
}

/// What one comparison found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The kernel and the problem.
    pub what: String,
    /// max|Δ| / max|want|; infinite where a result is no number.
    pub error: f64,
    /// What is allowed.
    pub bound: f64,
}

impl Finding {
    /// Whether the error is allowed.
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// Checks all kernels; `each` is told of every finding as it comes.
///
/// # Errors
/// When a launch fails, writes past its results, or does not repeat to the bit.
pub fn run<M: Machine>(
    machine: &M,
    scale: Scale,
    each: &mut dyn FnMut(&Finding),
) -> Result<(), String> {
    for element in Element::ALL {
        let mut on = On {
            machine,
            element,
            scale,
            each,
        };
        pixels::tubes(&mut on)?;
        norms::layer_norm(&mut on)?;
        norms::gelu(&mut on)?;
        norms::bias(&mut on)?;
        losses::cross_entropy(&mut on)?;
        attention::attention(&mut on)?;
        if element == Element::F32 {
            optimiser::adamw(&mut on)?;
            faces::conv(&mut on)?;
            faces::max_pool(&mut on)?;
            faces::area(&mut on)?;
        }
    }
    Ok(())
}

/// One machine and one type.
struct On<'a, M> {
    machine: &'a M,
    element: Element,
    scale: Scale,
    each: &'a mut dyn FnMut(&Finding),
}

/// Bytes behind each result that no kernel may touch.
const GUARD: usize = 64;

/// Values in a machine's memory.
struct Operand<R> {
    memory: R,
    /// What the kernel reads: rounded to its type.
    values: Vec<f64>,
}

impl<M: Machine> On<'_, M> {
    /// Values of the kernel's type.
    fn operand(&self, values: &[f64]) -> Result<Operand<M::Memory>, String> {
        self.operand_of(self.element, values)
    }

    fn operand_of(&self, element: Element, values: &[f64]) -> Result<Operand<M::Memory>, String> {
        let bytes = encode(element, values);
        Ok(Operand {
            memory: self.machine.upload(&bytes)?,
            values: decode(element, &bytes),
        })
    }

    fn at(&self, operand: &Operand<M::Memory>) -> u64 {
        self.machine.address(&operand.memory)
    }

    /// Runs what `launches` makes of the results' addresses, twice; gives the
    /// results, each of some values of a type.
    fn results(
        &self,
        what: &str,
        sizes: &[(Element, usize)],
        launches: impl Fn(&[u64]) -> Result<Vec<Launch>, Unsupported>,
    ) -> Result<Vec<Vec<f64>>, String> {
        let once = || -> Result<Vec<Vec<u8>>, String> {
            let memories = sizes
                .iter()
                .map(|&(element, n)| self.machine.upload(&vec![0xff; n * element.size() + GUARD]))
                .collect::<Result<Vec<_>, _>>()?;
            let addresses: Vec<u64> = memories.iter().map(|m| self.machine.address(m)).collect();
            for launch in launches(&addresses).map_err(|e| e.to_string())? {
                // SAFETY: operands and results are memory of this machine, of the
                // sizes that the check has given to the kernel.
                unsafe { self.machine.run(&launch) }
                    .map_err(|e| format!("{what}: {}: {e}", launch.function))?;
            }
            memories.iter().map(|m| self.machine.download(m)).collect()
        };
        let (first, second) = (once()?, once()?);
        if first != second {
            return Err(format!("{what}: two runs differ"));
        }
        let mut results = Vec::with_capacity(sizes.len());
        for (mut bytes, &(element, n)) in first.into_iter().zip(sizes) {
            let guard = bytes.split_off(n * element.size());
            if guard.iter().any(|&b| b != 0xff) {
                return Err(format!("{what}: a result was written past its end"));
            }
            results.push(decode(element, &bytes));
        }
        Ok(results)
    }

    /// Reports how far `got` is from `want`; `bounds` are those of f32, bf16, f16.
    fn compare(&mut self, what: &str, got: &[f64], want: &[f64], bounds: [f64; 3]) {
        let bound = match self.element {
            Element::F32 => bounds[0],
            Element::Bf16 => bounds[1],
            Element::F16 => bounds[2],
        };
        let largest = want.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(w.abs()));
        let mut error = if got.len() == want.len() {
            0.0
        } else {
            f64::INFINITY
        };
        for (g, w) in got.iter().zip(want) {
            let off = (g - w).abs() / largest;
            error = if off.is_nan() {
                f64::INFINITY
            } else {
                f64::max(error, off)
            };
        }
        let what = format!("{what} {}", self.element.suffix());
        (self.each)(&Finding { what, error, bound });
    }
}

/// Values as a machine holds them, rounded to the nearest.
fn encode(element: Element, values: &[f64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * element.size());
    for &v in values {
        match element {
            Element::F32 => bytes.extend((v as f32).to_ne_bytes()),
            Element::Bf16 => bytes.extend(bf16::from_f64(v).to_ne_bytes()),
            Element::F16 => bytes.extend(f16::from_f64(v).to_ne_bytes()),
        }
    }
    bytes
}

fn decode(element: Element, bytes: &[u8]) -> Vec<f64> {
    let two = |b: &[u8]| [b[0], b[1]];
    match element {
        Element::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]).into())
            .collect(),
        Element::Bf16 => bytes
            .chunks_exact(2)
            .map(|b| bf16::from_ne_bytes(two(b)).into())
            .collect(),
        Element::F16 => bytes
            .chunks_exact(2)
            .map(|b| f16::from_ne_bytes(two(b)).into())
            .collect(),
    }
}

/// Standard normal numbers that depend on the seed alone: SplitMix64 (Steele et al., 2014) and Box–Muller.
pub fn normals(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n)
        .map(|_| (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos())
        .collect()
}
