//! The one place that asks the CPU what it can do, and the user what it may.
//!
//! Kernels are written once as `#[inline(always)]` functions over fixed-width
//! lanes; the macro `dispatch!` compiles them again under each instruction set and picks
//! the best one that the probe found.
//!
//! The environment variable [`VARIABLE`] holds the process to an instruction set and to
//! those below it. It is read once; one that is empty counts as not set. Whoever begins
//! to compute asks [`Isa::held`] whether it can be obeyed.

use std::fmt;
use std::sync::OnceLock;

/// The environment variable that holds a process to an instruction set of [`NAMES`].
pub const VARIABLE: &str = "MTCAE_ISA";

/// The instruction sets that there are code paths for, best first. Each takes what those
/// after it have.
pub const NAMES: [&str; 4] = ["amx", "avx512", "avx2", "portable"];

/// An instruction set that this CPU is known to have.
///
/// Values come from the functions below alone, so holding one is the proof that its
/// instructions can be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// AVX-512, and AMX with bf16 and bytes on Linux, which grants its use.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// Why the instruction set that [`VARIABLE`] names cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsaError {
    /// No instruction set is called so.
    Unknown {
        /// What the variable says.
        value: String,
        /// The names of those that this CPU has, best first.
        here: Vec<&'static str>,
    },
    /// This CPU lacks it, or the operating system does not grant it.
    Missing {
        /// What the variable says.
        value: String,
        /// The names of those that this CPU has, best first.
        here: Vec<&'static str>,
    },
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { value, here } => write!(
                f,
                "{VARIABLE}={value:?}: no such instruction set; there are {}, and this machine has {}",
                listed(&NAMES),
                listed(here)
            ),
            Self::Missing { value, here } => write!(
                f,
                "{VARIABLE}={value}: this machine lacks it; it has {}",
                listed(here)
            ),
        }
    }
}

impl std::error::Error for IsaError {}

/// "a, b and c".
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

impl Isa {
    /// The instruction set that this process computes on: the best of this CPU, or the one
    /// that [`VARIABLE`] names. Programs ask first of all, and `mtcae-nn` wherever plans
    /// and operations begin, so that the error comes before anything is computed.
    ///
    /// # Errors
    /// When the variable names no instruction set, or one that this CPU lacks.
    pub fn held() -> Result<Self, IsaError> {
        held().clone()
    }

    /// As [`Self::held`] for kernels, which have no way to say an error: where the
    /// variable cannot be obeyed, the portable one, which is never more than was allowed.
    pub fn best() -> Self {
        match held() {
            Ok(isa) => *isa,
            Err(_) => Self(Level::Portable),
        }
    }

    /// The instruction sets that this process may use, best first: [`Self::best`] and
    /// those below it. The portable one is always the last.
    pub fn available() -> Vec<Self> {
        let best = Self::best();
        let mut all = Self::of_cpu();
        all.drain(..all.iter().position(|isa| *isa == best).unwrap_or(0));
        all
    }

    /// All instruction sets of this CPU that have a code path, best first, whatever
    /// [`VARIABLE`] says: for saying what there is. The portable one is always the last.
    pub fn of_cpu() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                #[cfg(target_os = "linux")]
                if crate::micro::amx::available() {
                    found.push(Self(Level::Amx));
                }
                found.push(Self(Level::Avx512));
            }
            if avx2 {
                found.push(Self(Level::Avx2));
            }
        }
        found.push(Self(Level::Portable));
        found
    }

    /// The name as people write it: one of [`NAMES`].
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Level::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            Level::Portable => "portable",
        }
    }

    /// Whether there are 32 registers of sixteen lanes.
    pub(crate) fn has_avx512(self) -> bool {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Level::Amx => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => true,
            _ => false,
        }
    }

    /// Whether multiply-adds have one rounding.
    #[cfg(feature = "checks")]
    pub(crate) fn is_fused(self) -> bool {
        self.0 != Level::Portable || PORTABLE_FMA
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }
}

/// As [`Isa::held`], read once.
fn held() -> &'static Result<Isa, IsaError> {
    static HELD: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
    HELD.get_or_init(|| {
        let value = std::env::var_os(VARIABLE).unwrap_or_default();
        choose(&value.to_string_lossy(), &Isa::of_cpu())
    })
}

/// The first of a CPU's instruction sets, or the one that is called `value`.
fn choose(value: &str, cpu: &[Isa]) -> Result<Isa, IsaError> {
    if let Some(isa) = cpu.iter().find(|i| value.is_empty() || i.name() == value) {
        return Ok(*isa);
    }
    let here = cpu.iter().map(|isa| isa.name()).collect();
    let value = value.to_owned();
    Err(match NAMES.contains(&value.as_str()) {
        true => IsaError::Missing { value, here },
        false => IsaError::Unknown { value, here },
    })
}

/// Whether the portable path may use `mul_add`: where the target has no fused
/// multiply-add it would become a library call.
pub(crate) const PORTABLE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Calls `$f::<FMA>(args…)` compiled for the instruction set `$isa`.
///
/// `$f` must be `#[inline(always)]`, so that its body takes on the features of
/// the wrapper that it is inlined into.
macro_rules! dispatch {
    ($isa:expr, $f:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
        fn avx512($($arg: $ty),*) $(-> $ret)? {
            $f::<true>($($arg),*)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2($($arg: $ty),*) $(-> $ret)? {
            $f::<true>($($arg),*)
        }
        match $isa.level() {
            // SAFETY: an `Isa` of this level exists only where the probe found
            // every feature that the function enables.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            $crate::isa::Level::Amx => unsafe { avx512($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
            $crate::isa::Level::Portable => {
                $f::<{ $crate::isa::PORTABLE_FMA }>($($arg),*)
            }
        }
    }};
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_path_is_always_there_and_last() {
        for all in [Isa::available(), Isa::of_cpu()] {
            assert_eq!(all.last().map(|isa| isa.name()), Some("portable"));
        }
        assert_eq!(Isa::available()[0], Isa::best());
        assert_eq!(Isa::held(), Ok(Isa::best()), "what the tests run on");
    }

    #[test]
    fn every_instruction_set_can_be_named() {
        let cpu = Isa::of_cpu();
        assert_eq!(choose("", &cpu), Ok(cpu[0]));
        for isa in &cpu {
            assert!(NAMES.contains(&isa.name()));
            assert_eq!(choose(isa.name(), &cpu), Ok(*isa));
        }
    }

    #[test]
    fn a_name_that_cannot_be_obeyed_says_what_can() {
        let said = |value: &str, cpu: &[Isa]| {
            let error = choose(value, cpu).expect_err("it cannot");
            error.to_string()
        };
        let portable = [Isa(Level::Portable)];
        assert_eq!(
            said("avx2", &portable),
            "MTCAE_ISA=avx2: this machine lacks it; it has portable"
        );
        for wrong in ["AVX2", "avx2 ", "avx2+fma", "sse"] {
            assert_eq!(
                said(wrong, &portable),
                format!(
                    "MTCAE_ISA={wrong:?}: no such instruction set; there are amx, avx512, avx2 \
                     and portable, and this machine has portable"
                )
            );
        }
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }
}
