//! How products take their operands: chosen once, packed for
//! once, read by every layer.

use rayon::prelude::*;

use crate::isa::{Isa, Level};
use crate::lanes;
use crate::matrix::{MatRef, size};
use crate::micro::{self, MicroKernel, fma};
use crate::scratch;

/// What numbers a product multiplies. Sums are `f32` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Factors {
    /// `f32`.
    #[default]
    F32,
    /// bf16: 8 bits of significand, half the memory.
    Bf16,
}

/// How operands lie in memory, and which instructions multiply them.
///
/// Values come from [`Format::new`] and [`Format::available`] alone, so holding
/// one is the proof that its instructions can be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(pub(crate) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Multiply-adds on `f32`.
    Plain(Isa),
    /// AMX on `f32` as whole numbers of three digits.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Digits,
    /// AMX on bf16.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Rounded,
    /// AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    Dots,
}

/// Calls `$f(kernel, args…)` compiled for the micro-kernel of a [`Kind`].
///
/// `$f` must be `#[inline(always)]`, so that its body takes on the features of
/// the wrapper that it is inlined into.
macro_rules! with_kernel {
    ($kind:expr, $f:ident($($arg:ident: $ty:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16")]
        fn dots($($arg: $ty),*) {
            // SAFETY: a `Kind` of this name exists only where these were found.
            $f(unsafe { $crate::micro::dots::Dots::new() }, $($arg),*)
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16")]
        fn rounded($($arg: $ty),*) {
            // SAFETY: as above, and AMX was found.
            $f(unsafe { $crate::micro::amx::Rounded::new() }, $($arg),*)
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn digits($($arg: $ty),*) {
            // SAFETY: as above, without AVX512-BF16.
            $f(unsafe { $crate::micro::digits::Digits::new() }, $($arg),*)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
        fn avx512($($arg: $ty),*) {
            // SAFETY: this function runs only where these features were found.
            let simd = unsafe { $crate::lanes::Avx512::new() };
            $f($crate::micro::fma::Wide { simd }, $($arg),*)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2($($arg: $ty),*) {
            // SAFETY: as above.
            let simd = unsafe { $crate::lanes::Avx2::new() };
            $f($crate::micro::fma::Narrow { simd }, $($arg),*)
        }
        match $kind {
            // SAFETY: a `Kind` of this name exists only where the probe found
            // every feature that the function enables.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            $crate::format::Kind::Digits => unsafe { digits($($arg),*) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            $crate::format::Kind::Rounded => unsafe { rounded($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::format::Kind::Dots => unsafe { dots($($arg),*) },
            $crate::format::Kind::Plain(isa) => match isa.level() {
                // SAFETY: as above.
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                $crate::isa::Level::Amx => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                $crate::isa::Level::Portable => {
                    $f($crate::micro::fma::Small { simd: $crate::lanes::Portable }, $($arg),*)
                }
            },
        }
    }};
}
pub(crate) use with_kernel;

/// What a micro-kernel's constants say, for the code outside of it.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Rows of a left panel.
    pub(crate) rows: usize,
    /// Columns of a right panel.
    pub(crate) cols: usize,
    /// Left panels of a task.
    pub(crate) panels: usize,
    /// Terms whose sums stay in registers.
    pub(crate) run: usize,
    /// `f32` of a square that becomes a part of a left panel.
    pub(crate) square: usize,
    /// Whether squares must still be made into panels.
    pub(crate) settles: bool,
    /// `f32` of panels of so many terms.
    pub(crate) left_panel: fn(usize) -> usize,
    pub(crate) right_panel: fn(usize) -> usize,
    pub(crate) operand_panel: fn(usize) -> usize,
}

impl Layout {
    fn of<K: MicroKernel>() -> Self {
        Self {
            rows: K::ROWS,
            cols: K::COLS,
            panels: K::PANELS,
            run: K::RUN,
            square: K::PUT,
            settles: K::PUT != K::LEFT,
            left_panel: K::left_panel,
            right_panel: K::right_panel,
            operand_panel: K::operand_panel,
        }
    }
}

impl Kind {
    /// What `f32` products are computed on.
    pub(crate) fn of(isa: Isa) -> Self {
        match isa.level() {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Level::Amx => Self::Digits,
            _ => Self::Plain(isa),
        }
    }

    pub(crate) fn layout(self) -> Layout {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Digits => Layout::of::<micro::digits::Digits>(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Rounded => Layout::of::<micro::amx::Rounded>(),
            #[cfg(target_arch = "x86_64")]
            Self::Dots => Layout::of::<micro::dots::Dots>(),
            Self::Plain(isa) => match isa.level() {
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                Level::Amx => Layout::of::<fma::Wide<lanes::Avx512>>(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => Layout::of::<fma::Wide<lanes::Avx512>>(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => Layout::of::<fma::Narrow<lanes::Avx2>>(),
                Level::Portable => Layout::of::<fma::Small<lanes::Portable>>(),
            },
        }
    }
}

impl Format {
    /// The fastest format of these factors that this process may use, or nothing where
    /// there is none: bf16 takes AMX or AVX512-BF16.
    pub fn new(factors: Factors) -> Option<Self> {
        Self::available()
            .into_iter()
            .find(|format| format.factors() == factors)
    }

    /// All formats of the instruction sets that this process may use
    /// ([`Isa::available`]), best first.
    pub fn available() -> Vec<Self> {
        Isa::available().into_iter().flat_map(Self::of).collect()
    }

    /// The best instruction set of this CPU that has a format of these factors, whether
    /// or not this process may use it: for saying why there is none.
    pub fn needs(factors: Factors) -> Option<Isa> {
        let has = |isa: &Isa| Self::of(*isa).iter().any(|f| f.factors() == factors);
        Isa::of_cpu().into_iter().find(has)
    }

    /// The formats of an instruction set, `f32` first.
    fn of(isa: Isa) -> Vec<Self> {
        match isa.level() {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Level::Amx if dot_products() => vec![Self(Kind::Digits), Self(Kind::Rounded)],
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Level::Amx => vec![Self(Kind::Digits)],
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if dot_products() => vec![Self(Kind::Plain(isa)), Self(Kind::Dots)],
            _ => vec![Self(Kind::Plain(isa))],
        }
    }

    /// What its products multiply.
    pub fn factors(self) -> Factors {
        match self.0 {
            Kind::Plain(_) => Factors::F32,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Digits => Factors::F32,
            #[cfg(target_arch = "x86_64")]
            _ => Factors::Bf16,
        }
    }

    /// The name as people write it: `amx`, `amx-bf16`, `avx512-bf16`, or that of
    /// the instruction set.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Plain(isa) => isa.name(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Digits => "amx",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Rounded => "amx-bf16",
            #[cfg(target_arch = "x86_64")]
            Kind::Dots => "avx512-bf16",
        }
    }

    /// What everything but products runs on.
    pub(crate) fn isa(self) -> Isa {
        match self.0 {
            Kind::Plain(isa) => isa,
            #[cfg(target_arch = "x86_64")]
            _ => Isa::best(),
        }
    }

    /// `f32` that an operand of `rows` rows of `cols` takes; more than any slice holds
    /// where that is no number.
    pub fn operand_len(self, rows: usize, cols: usize) -> usize {
        let layout = self.0.layout();
        match cols {
            ..MOST_TERMS => size([rows.div_ceil(layout.rows), (layout.operand_panel)(cols)]),
            _ => usize::MAX,
        }
    }
}

/// More terms than a row in memory has, and few enough that a panel's length is a
/// number.
const MOST_TERMS: usize = usize::MAX >> 16;

/// Whether the CPU has AVX512-BF16 and what packing for it needs.
#[cfg(target_arch = "x86_64")]
fn dot_products() -> bool {
    is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw")
}

/// The left operand of a product: `rows` rows of `cols` numbers in the form that
/// a [`Format`] multiplies.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub(crate) format: Format,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) data: &'a [f32],
}

/// A left operand that is being written.
pub struct OperandMut<'a> {
    pub(crate) format: Format,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) data: &'a mut [f32],
}

impl<'a> OperandMut<'a> {
    /// An operand in the first [`Format::operand_len`] elements of `data`.
    ///
    /// # Panics
    /// When `data` is shorter.
    pub fn new(format: Format, rows: usize, cols: usize, data: &'a mut [f32]) -> Self {
        let len = format.operand_len(rows, cols);
        assert!(
            data.len() >= len,
            "operand: {rows}×{cols} needs {len} elements, not {}",
            data.len()
        );
        Self {
            format,
            rows,
            cols,
            data: &mut data[..len],
        }
    }

    /// A shorter loan of the same operand.
    pub fn reborrow(&mut self) -> OperandMut<'_> {
        OperandMut {
            format: self.format,
            rows: self.rows,
            cols: self.cols,
            data: self.data,
        }
    }

    /// For reading.
    pub fn finish(self) -> Operand<'a> {
        Operand {
            format: self.format,
            rows: self.rows,
            cols: self.cols,
            data: self.data,
        }
    }

    /// Takes over a matrix of the same size whose rows are contiguous.
    ///
    /// # Panics
    /// When its size is another.
    pub fn pack(&mut self, x: MatRef<'_>) {
        assert!(
            (x.rows, x.cols, x.col_stride) == (self.rows, self.cols, 1),
            "operand: a matrix of another size"
        );
        self.fill_rows(|row, out| {
            out.copy_from_slice(&x.data[row * x.row_stride..][..x.cols]);
        });
    }

    /// Writes every row: `fill` is called once for each, with its number, over
    /// rayon's current pool.
    pub fn fill_rows(&mut self, fill: impl Fn(usize, &mut [f32]) + Sync) {
        let (rows, cols, kind) = (self.rows, self.cols, self.format.0);
        if rows == 0 || cols == 0 {
            return;
        }
        let layout = self.format.0.layout();
        let panels = self.data.par_chunks_mut((layout.operand_panel)(cols));
        panels.enumerate().for_each(|(i, panel)| {
            let first = i * layout.rows;
            scratch::with(cols, |terms| {
                for r in 0..layout.rows.min(rows - first) {
                    fill(first + r, terms);
                    put_row(kind, terms, r, panel);
                }
            });
        });
    }
}

/// Writes row `row` of a panel.
fn put_row(kind: Kind, terms: &[f32], row: usize, panel: &mut [f32]) {
    #[inline(always)]
    fn pack_row<K: MicroKernel>(kernel: K, terms: &[f32], row: usize, panel: &mut [f32]) {
        kernel.pack_row(terms, row, panel);
    }
    with_kernel!(kind, pack_row(terms: &[f32], row: usize, panel: &mut [f32]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_format_for_f32() {
        let format = Format::new(Factors::F32).expect("f32");
        assert_eq!(format.factors(), Factors::F32);
        assert_eq!(format, Format::available()[0]);
        assert_eq!(Format::needs(Factors::F32), Some(Isa::of_cpu()[0]));
        if let Some(format) = Format::new(Factors::Bf16) {
            assert_eq!(format.factors(), Factors::Bf16);
        }
    }
}
