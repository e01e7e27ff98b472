//! Every kernel against its definition in `f64`, on any machine that runs launches.
//!
//! The same bodies run on a GPU and on the pretend one. Operands are rounded to the
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
use rayon::prelude::*;

use super::{Element, Launch, Pointer, Unsupported};

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
    fn pointer(&self, memory: &Self::Memory) -> Pointer;
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
    /// Every pointer must be to memory of this machine as large as the operand.
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
    /// The kernel and the problem; and what happened, where that is no matter of accuracy.
    pub what: String,
    /// max|Δ| / max|want|; infinite where a result is no number.
    pub error: f64,
    /// What is allowed.
    pub bound: f64,
    /// Where results were compared.
    pub worst: Option<Worst>,
}

/// The element that is furthest from what it should be: the first that is no number,
/// where there is such a one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// Where it stands in the result.
    pub index: usize,
    /// What it is.
    pub got: f64,
    /// What it should be.
    pub want: f64,
    /// Elements beyond the bound.
    pub bad: usize,
    /// Those of them that are no number.
    pub nans: usize,
    /// Elements in all.
    pub of: usize,
}

impl Finding {
    /// Whether the error is allowed.
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        let Self {
            what, error, bound, ..
        } = self;
        write!(f, "{verdict:6} {error:.1e} of {bound:.1e}  {what}")?;
        match self.worst {
            Some(w) if !self.passed() => write!(
                f,
                "; worst at {}: got {:.7e}, wanted {:.7e}; of {} elements {} are beyond the bound and {} no number",
                w.index, w.got, w.want, w.of, w.bad, w.nans
            ),
            _ => Ok(()),
        }
    }
}

/// The families of kernels, the widely used ones first.
const FAMILIES: [&str; 10] = [
    "tubes",
    "layer_norm",
    "gelu",
    "residual",
    "cross_entropy",
    "attention",
    // Of pictures and parameters, in `f32` alone.
    "adamw",
    "conv",
    "max_pool",
    "area",
];

/// The families of kernels that a type has.
pub fn families(element: Element) -> &'static [&'static str] {
    match element {
        Element::F32 => &FAMILIES,
        Element::Bf16 | Element::F16 => &FAMILIES[..6],
    }
}

type Check<M> = fn(&mut On<'_, M>) -> Result<(), String>;

fn check<M: Machine>(family: &str) -> Option<Check<M>> {
    Some(match family {
        "tubes" => pixels::tubes,
        "layer_norm" => norms::layer_norm,
        "gelu" => norms::gelu,
        "residual" => norms::residual,
        "cross_entropy" => losses::cross_entropy,
        "attention" => attention::attention,
        "adamw" => optimiser::adamw,
        "conv" => faces::conv,
        "max_pool" => faces::max_pool,
        "area" => faces::area,
        _ => return None,
    })
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

/// Checks the kernels of a type, family by family, as [`run_family`] does.
///
/// # Errors
/// When the machine does nothing more.
pub fn run_type<M: Machine>(
    machine: &M,
    element: Element,
    scale: Scale,
    each: &mut dyn FnMut(&Finding),
) -> Result<(), String> {
    families(element)
        .iter()
        .try_for_each(|family| run_family(machine, element, family, &[], scale, each))
}

/// Checks a family of kernels in a type; of attention those for the heads given, as they
/// are compiled, or all where none is given. `each` is told of every finding as it comes.
/// A launch that fails, writes past its results or does not repeat to the bit is a
/// finding that did not pass, and the rest follows.
///
/// # Errors
/// When there is no such family, or the machine does nothing more.
pub fn run_family<M: Machine>(
    machine: &M,
    element: Element,
    family: &str,
    heads: &[usize],
    scale: Scale,
    each: &mut dyn FnMut(&Finding),
) -> Result<(), String> {
    let known = families(element);
    let check = check::<M>(family)
        .filter(|_| known.contains(&family))
        .ok_or_else(|| {
            format!(
                "{family} is not one of the families of {}: {}",
                element.suffix(),
                known.join(", ")
            )
        })?;
    let mut on = On {
        machine,
        element,
        scale,
        heads,
        each,
    };
    if let Err(reason) = check(&mut on) {
        on.fault(family, &reason);
        let alive = machine
            .upload(&[0; 16])
            .and_then(|memory| machine.download(&memory));
        alive.map_err(|e| format!("nothing runs after {family}: {e}"))?;
    }
    Ok(())
}

/// One machine and one type.
struct On<'a, M> {
    machine: &'a M,
    element: Element,
    scale: Scale,
    /// Of attention: the heads, as they are compiled, or none for all.
    heads: &'a [usize],
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

    fn at(&self, operand: &Operand<M::Memory>) -> Pointer {
        self.machine.pointer(&operand.memory)
    }

    /// Whether attention with this head dimension is checked.
    fn has_head(&self, head_dim: usize) -> bool {
        let compiled = super::attention::padded_head(head_dim);
        self.heads.is_empty() || compiled.is_ok_and(|head| self.heads.contains(&head))
    }

    /// Runs what `launches` makes of pointers to the results, twice; gives the
    /// results, each of some values of a type: NaN where a launch fails.
    fn results(
        &mut self,
        what: &str,
        sizes: &[(Element, usize)],
        launches: impl Fn(&[Pointer]) -> Result<Vec<Launch>, Unsupported>,
    ) -> Result<Vec<Vec<f64>>, String> {
        let once = || -> Result<Vec<Vec<u8>>, String> {
            let memories = sizes
                .iter()
                .map(|&(element, n)| self.machine.upload(&vec![0xff; n * element.size() + GUARD]))
                .collect::<Result<Vec<_>, _>>()?;
            let pointers: Vec<_> = memories.iter().map(|m| self.machine.pointer(m)).collect();
            for launch in launches(&pointers).map_err(|e| e.to_string())? {
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
        let mut results = Vec::with_capacity(sizes.len());
        let all = first.into_iter().zip(second).zip(sizes);
        for (i, ((mut bytes, mut again), &(element, n))) in all.enumerate() {
            let end = n * element.size();
            let guard = bytes.split_off(end);
            again.truncate(end);
            if let Some(at) = guard.iter().position(|&b| b != 0xff) {
                let value = guard[at];
                self.fault(
                    what,
                    &format!("result {i} was written past its end, first {at} bytes behind it: {value:#04x}"),
                );
            }
            let values = decode(element, &bytes);
            if let Some(reason) = difference(element, &bytes, &again) {
                self.fault(what, &format!("two runs differ: result {i}, {reason}"));
            }
            results.push(values);
        }
        Ok(results)
    }

    /// Reports what is no matter of accuracy.
    fn fault(&mut self, what: &str, reason: &str) {
        (self.each)(&Finding {
            what: format!("{what} {}: {reason}", self.element.suffix()),
            error: f64::INFINITY,
            bound: 0.0,
            worst: None,
        });
    }

    /// Reports how far `got` is from `want`; `bounds` are those of f32, bf16, f16.
    fn compare(&mut self, what: &str, got: &[f64], want: &[f64], bounds: [f64; 3]) {
        let bound = match self.element {
            Element::F32 => bounds[0],
            Element::Bf16 => bounds[1],
            Element::F16 => bounds[2],
        };
        let what = format!("{what} {}", self.element.suffix());
        let (error, worst) = deviation(got, want, bound);
        (self.each)(&Finding {
            what,
            error,
            bound,
            worst,
        });
    }
}

/// How far `got` is from `want`, and where it is furthest.
fn deviation(got: &[f64], want: &[f64], bound: f64) -> (f64, Option<Worst>) {
    if got.len() != want.len() {
        return (f64::INFINITY, None);
    }
    let largest = want.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(w.abs()));
    let mut error = 0.0;
    let mut worst: Option<Worst> = None;
    let (mut bad, mut nans) = (0, 0);
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        let mut off = (got - want).abs() / largest;
        if off.is_nan() {
            nans += 1;
            off = f64::INFINITY;
        }
        bad += usize::from(off > bound);
        if worst.is_none() || off > error {
            error = off;
            worst = Some(Worst {
                index,
                got,
                want,
                bad: 0,
                nans: 0,
                of: 0,
            });
        }
    }
    let of = want.len();
    (error, worst.map(|w| Worst { bad, nans, of, ..w }))
}

/// Where two results of a type differ, or nothing.
fn difference(element: Element, first: &[u8], second: &[u8]) -> Option<String> {
    let size = element.size();
    let apart: Vec<usize> = first
        .chunks(size)
        .zip(second.chunks(size))
        .enumerate()
        .filter_map(|(i, (a, b))| (a != b).then_some(i))
        .collect();
    let &at = apart.first()?;
    let value = |bytes: &[u8]| decode(element, &bytes[at * size..][..size])[0];
    Some(format!(
        "{} of {} elements, first {at}: {:e} and {:e} (bytes {:02x?} and {:02x?})",
        apart.len(),
        first.len() / size,
        value(first),
        value(second),
        &first[at * size..][..size],
        &second[at * size..][..size],
    ))
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

/// SplitMix64 (Steele et al., 2014): the k-th number of a seed, without those before it.
pub fn splitmix(seed: u64, k: u64) -> u64 {
    let mut z = seed.wrapping_add(k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Standard normal numbers that depend on the seed alone (Box–Muller), on all threads.
pub fn normals(n: usize, seed: u64) -> Vec<f64> {
    let uniform = |k: u64| (splitmix(seed, k) >> 11) as f64 / (1u64 << 53) as f64;
    (0..n as u64)
        .into_par_iter()
        .map(|i| {
            let radius = (-2.0 * (1.0 - uniform(2 * i)).ln()).sqrt();
            radius * (std::f64::consts::TAU * uniform(2 * i + 1)).cos()
        })
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

        fn pointer(&self, _: &Self::Memory) -> Pointer {
            Pointer::NONE
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
    fn a_deviation_says_where_and_how_many() {
        let want = [1.0, -4.0, 2.0, 0.0];
        let (error, worst) = deviation(&[1.0, -4.2, 2.0, 0.1], &want, 0.03);
        assert!((error - 0.05).abs() < 1e-12);
        let worst = worst.expect("there are elements");
        assert_eq!((worst.index, worst.bad, worst.nans, worst.of), (1, 1, 0, 4));
        let finding = Finding {
            what: "gelu 1×4 f32".to_owned(),
            error,
            bound: 0.03,
            worst: Some(worst),
        };
        assert_eq!(
            finding.to_string(),
            "FAILED 5.0e-2 of 3.0e-2  gelu 1×4 f32; worst at 1: got -4.2000000e0, wanted -4.0000000e0; of 4 elements 1 are beyond \
             the bound and 0 no number"
        );
        let (error, worst) = deviation(&[1.0, 9.0, f64::NAN, f64::NAN], &want, 0.03);
        let worst = worst.expect("there are elements");
        assert!(error.is_infinite());
        assert_eq!((worst.index, worst.bad, worst.nans), (2, 3, 2));
        assert_eq!(deviation(&[], &[], 0.0), (0.0, None));
        assert!(deviation(&[1.0], &want, 1.0).0.is_infinite());
    }

    #[test]
    fn two_runs_that_differ_are_told_apart_by_their_first_element() {
        let first = encode(Element::Bf16, &[1.0, 2.0, 3.0]);
        assert_eq!(difference(Element::Bf16, &first, &first), None);
        let second = encode(Element::Bf16, &[1.0, 2.5, 4.0]);
        let said = difference(Element::Bf16, &first, &second).expect("they differ");
        assert!(
            said.starts_with("2 of 3 elements, first 1: 2e0 and 2.5e0"),
            "{said}"
        );
    }

    #[test]
    fn every_family_has_a_check_and_others_are_refused_by_name() {
        let all: Vec<_> = FAMILIES.iter().map(|f| check::<Broken>(f)).collect();
        assert!(all.iter().all(Option::is_some));
        let machine = Broken {
            lost: false,
            launched: Cell::new(0),
        };
        let one = |element, family| {
            let mut seen = Vec::new();
            run_family(
                &machine,
                element,
                family,
                &[64, 176],
                Scale::Small,
                &mut |f| seen.push(f.what.clone()),
            )
            .map(|()| seen)
        };
        let error = one(Element::Bf16, "adamw").expect_err("f32 alone");
        assert!(error.contains("tubes, layer_norm"), "{error}");
        let seen = one(Element::Bf16, "attention").expect("it runs");
        assert!(
            seen.iter().any(|w| w.contains("×64 ")) && seen.iter().any(|w| w.contains("×176 "))
        );
        assert!(!seen.iter().any(|w| w.contains("×80 ")), "{seen:?}");
    }

    #[test]
    fn normals_are_those_of_the_seed() {
        // Of the generator run one state after another.
        let mut state = 5u64.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut uniform = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        };
        for value in normals(100, 5) {
            let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
            assert_eq!(value, radius * (std::f64::consts::TAU * uniform()).cos());
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
