//! The type that a model computes in.

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device};
use mtcae_kernels::isa::{Isa, IsaError};
use serde::{Deserialize, Serialize};

/// The type that a model computes in. Parameters under training stay `f32` and are
/// rounded where they are used; sums, statistics of norms and losses are `f32` always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits of significand.
    #[default]
    F32,
    /// `f32` whose matrix products round their operands to 11 bits; on GPUs.
    Tf32,
    /// 8 bits of significand, the range of `f32`.
    Bf16,
}

/// Why nothing computes in the precision that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// Only GPUs compute in TF32.
    #[error("TF32 exists on GPUs only; the CPU computes in f32 or bf16")]
    Tf32,
    /// Packed weights in bf16 need instructions that this CPU lacks.
    #[error("bf16 needs a CPU with AMX or AVX512-BF16, which this one lacks; use f32")]
    Bf16,
    /// Packed weights in bf16 need instructions that the process may not use.
    #[error(
        "bf16: MTCAE_ISA={held} holds the program to {held}, which has none; MTCAE_ISA={with}, \
         or none at all, lets it take this CPU's; or use f32"
    )]
    Bf16Held {
        /// The instruction set that the process is held to.
        held: &'static str,
        /// The best of this CPU that has bf16.
        with: &'static str,
    },
    /// The instruction set that the process is to be held to cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// Tensors on the CPU are `f32` only; the type or precision asked for.
    #[error("{0}: on the CPU tensors are f32 only; packed weights compute in bf16 there")]
    OnCpu(&'static str),
    /// The process has a model of the other setting.
    #[error(
        "{}: TF32 is a setting of the whole process, which has prepared a model {}; use \
         processes of their own, or `Precision::switch` where that model is done with",
        if *tf32 { "tf32" } else { "another type than tf32" },
        if *tf32 { "without it" } else { "in it" }
    )]
    Otherwise {
        /// Whether TF32 was asked for.
        tf32: bool,
    },
}

/// A name that no precision has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not one of f32, tf32, bf16")]
pub struct UnknownPrecision(String);

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    /// Its name on command lines and in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// The type of activations. A model computes in the type of its input.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::Tf32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Prepares a device for it: allows TF32 or forbids it in the matrix products of
    /// `f32` on GPUs. That is a setting of the whole process, so all of its models on
    /// GPUs compute in `tf32`, or none does.
    ///
    /// # Errors
    /// [`Unsupported::OnCpu`] on the CPU for another than `f32`, [`Unsupported::Isa`] there
    /// as [`Isa::held`]; [`Unsupported::Otherwise`] when a model was prepared otherwise before.
    pub fn prepare(self, device: &Device) -> Result<(), Unsupported> {
        self.set(device, agree)
    }

    /// As [`Self::prepare`], whatever was prepared before: for a program that is done
    /// with the models of the other setting, whose results would change.
    ///
    /// # Errors
    /// [`Unsupported::OnCpu`] on the CPU for another than `f32`, [`Unsupported::Isa`] there
    /// as [`Isa::held`].
    pub fn switch(self, device: &Device) -> Result<(), Unsupported> {
        self.set(device, |_, _| Ok(()))
    }

    fn set(
        self,
        device: &Device,
        allowed: impl FnOnce(Option<bool>, bool) -> Result<(), Unsupported>,
    ) -> Result<(), Unsupported> {
        if device.is_cpu() {
            return match self {
                Self::F32 => Ok(Isa::held().map(|_| ())?),
                _ => Err(Unsupported::OnCpu(self.name())),
            };
        }
        let tf32 = self == Self::Tf32;
        let mut before = TF32.lock().unwrap_or_else(PoisonError::into_inner);
        allowed(*before, tf32)?;
        candle_core::cuda::set_gemm_reduced_precision_f32(tf32);
        *before = Some(tf32);
        Ok(())
    }
}

/// Whether the process's models on GPUs compute in `tf32`, once one was prepared.
static TF32: Mutex<Option<bool>> = Mutex::new(None);

fn agree(before: Option<bool>, tf32: bool) -> Result<(), Unsupported> {
    match before.is_none_or(|before| before == tf32) {
        true => Ok(()),
        false => Err(Unsupported::Otherwise { tf32 }),
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        Self::ALL
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_in_f32_alone() {
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse(), Ok(precision));
            let prepared = precision.prepare(&Device::Cpu);
            assert_eq!(prepared.is_ok(), precision == Precision::F32, "{precision}");
        }
        assert!("fp8".parse::<Precision>().is_err());
    }

    #[test]
    fn a_second_model_does_not_change_the_first_ones_precision() {
        assert!(agree(None, true).is_ok() && agree(None, false).is_ok());
        assert!(agree(Some(true), true).is_ok() && agree(Some(false), false).is_ok());
        for (before, tf32) in [(true, false), (false, true)] {
            let error = agree(Some(before), tf32).expect_err("they disagree");
            assert!(error.to_string().contains("whole process"), "{error}");
        }
    }
}
