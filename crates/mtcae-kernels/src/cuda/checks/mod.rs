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

/// Checks all kernels, as [`run_type`] does for one type.
///
/// # Errors
/// When the machine does nothing more.
pub fn run<M: Machine>(
    machine: &M,
    scale: Scale,
    each: &mut dyn FnMut(&Finding),
) -> Result<(), String> {
    Element::ALL
        .into_iter()
        .try_for_each(|element| run_type(machine, element, scale, each))
}

/// Checks the kernels of a type, those of pictures and parameters with `f32`; `each` is
/// told of every finding as it comes. A launch that fails, writes past its results or
/// does not repeat to the bit is a finding that did not pass, and the rest follows.
///
/// # Errors
/// When the machine does nothing more.
pub fn run_type<M: Machine>(
    machine: &M,
    element: Element,
    scale: Scale,
    each: &mut dyn FnMut(&Finding),
) -> Result<(), String> {
    type Check<M> = fn(&mut On<'_, M>) -> Result<(), String>;
    let mut checks: Vec<(&str, Check<M>)> = vec![
        ("tubes", pixels::tubes),
        ("layer_norm", norms::layer_norm),
        ("gelu", norms::gelu),
        ("residual", norms::residual),
        ("cross_entropy", losses::cross_entropy),
        ("attention", attention::attention),
    ];
    if element == Element::F32 {
        checks.extend([
            ("adamw", optimiser::adamw as Check<M>),
            ("conv", faces::conv),
            ("max_pool", faces::max_pool),
            ("area", faces::area),
        ]);
    }
    let mut on = On {
        machine,
        element,
        scale,
        each,
    };
    for (name, check) in checks {
        if let Err(reason) = check(&mut on) {
            on.fault(name, &reason);
            let alive = machine
                .upload(&[0; 16])
                .and_then(|memory| machine.download(&memory));
            alive.map_err(|e| format!("nothing runs after {name}: {e}"))?;
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
    /// results, each of some values of a type: NaN where a launch fails.
    fn results(
        &mut self,
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
                    .map_err(|e| format!("{}: {e}", launch.function))?;
            }
            memories.iter().map(|m| self.machine.download(m)).collect()
        };
        let (first, second) = match once().and_then(|first| Ok((first, once()?))) {
            Ok(both) => both,
            Err(reason) => {
                self.fault(what, &reason);
                return Ok(sizes.iter().map(|&(_, n)| vec![f64::NAN; n]).collect());
            }
        };
        if first != second {
            self.fault(what, "two runs differ");
        }
        let mut results = Vec::with_capacity(sizes.len());
        for (mut bytes, &(element, n)) in first.into_iter().zip(sizes) {
            let guard = bytes.split_off(n * element.size());
            if guard.iter().any(|&b| b != 0xff) {
                self.fault(what, "a result was written past its end");
            }
            results.push(decode(element, &bytes));
        }
        Ok(results)
    }

    /// Reports what is no matter of accuracy.
    fn fault(&mut self, what: &str, reason: &str) {
        (self.each)(&Finding {
            what: format!("{what} {}: {reason}", self.element.suffix()),
            error: f64::INFINITY,
            bound: 0.0,
        });
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Launches nothing and says so; where it is then lost, nothing else works either.
    struct Broken {
        lost: bool,
        launched: Cell<usize>,
    }

    impl Machine for Broken {
        type Memory = Vec<u8>;

        fn upload(&self, bytes: &[u8]) -> Result<Self::Memory, String> {
            self.download(&bytes.to_vec())
        }

        fn address(&self, _: &Self::Memory) -> u64 {
            0
        }

        fn download(&self, memory: &Self::Memory) -> Result<Vec<u8>, String> {
            if self.lost && self.launched.get() > 0 {
                return Err("the context is lost".to_owned());
            }
            Ok(memory.clone())
        }

        unsafe fn run(&self, _: &Launch) -> Result<(), String> {
            self.launched.set(self.launched.get() + 1);
            Err("it does not start".to_owned())
        }
    }

    fn findings(lost: bool) -> (Vec<Finding>, Result<(), String>) {
        let machine = Broken {
            lost,
            launched: Cell::new(0),
        };
        let mut findings = Vec::new();
        let ended = run(&machine, Scale::Small, &mut |f| findings.push(f.clone()));
        (findings, ended)
    }

    #[test]
    fn a_launch_that_fails_is_said_and_the_rest_follows() {
        let (findings, ended) = findings(false);
        assert_eq!(ended, Ok(()));
        // Of no rows there is nothing to be wrong.
        let mut passed = findings.iter().filter(|f| f.passed());
        assert!(passed.all(|f| f.what.contains(" 0×")));
        for kernel in ["tubes", "attention", "adamw", "area"] {
            let said = |f: &&Finding| f.what.contains(kernel);
            let first = findings
                .iter()
                .find(said)
                .expect("every kernel has its turn");
            assert!(first.what.contains("does not start"), "{}", first.what);
        }
    }

    #[test]
    fn a_machine_that_is_lost_ends_the_check() {
        let (findings, ended) = findings(true);
        assert!(findings[0].what.contains("does not start"));
        assert!(findings.iter().all(|f| f.what.contains("tubes")));
        let error = ended.expect_err("nothing runs any more");
        assert!(error.contains("after tubes") && error.contains("context is lost"));
    }
}
