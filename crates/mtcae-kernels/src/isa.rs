//! The one place that asks the CPU what it can do.
//!
//! Kernels are written once as `#[inline(always)]` functions over fixed-width
//! lanes; the macro `dispatch!` compiles them again under each instruction set and picks
//! the best one that the probe found.

use std::sync::OnceLock;

/// An instruction set that this CPU is known to have.
///
/// Values come from [`Isa::best`] and [`Isa::available`] alone, so holding one
/// is the proof that its instructions can be executed.
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

impl Isa {
    /// The best instruction set of this CPU, probed once.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// All instruction sets of this CPU that have a code path, best first. The
    /// portable one is always the last.
    pub fn available() -> Vec<Self> {
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

    /// The name as people write it: `amx`, `avx512`, `avx2+fma` or `portable`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Level::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2+fma",
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
        let all = Isa::available();
        assert_eq!(all.last().map(|isa| isa.name()), Some("portable"));
        assert_eq!(all[0], Isa::best());
    }
}
