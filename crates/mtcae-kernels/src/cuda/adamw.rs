//! AdamW over all parameters in one launch (`cuda/adamw.cu`).

use super::{Argument, Launch, Pointer, Unsupported, WARP, count};
use crate::adamw::Moments;
use Argument::{F32, U32};

/// Elements that one block works on.
const PART: usize = 4096;

/// One parameter of the table that the kernels read.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Entry {
    parameter: Pointer,
    gradient: Pointer,
    m: Pointer,
    v: Pointer,
    length: u64,
    first_block: u32,
    keep: f32,
    rate: f32,
    padding: u32,
}

/// Where one parameter lies and what holds for it alone. All operands are `f32`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// Its address.
    pub parameter: Pointer,
    /// That of its gradient.
    pub gradient: Pointer,
    /// That of the gradient's average; 0 where no averages are needed.
    pub m: Pointer,
    /// That of its square's average; 0 where no averages are needed.
    pub v: Pointer,
    /// Elements.
    pub length: usize,
    /// 1 − lr·λ; or what a moving average keeps.
    pub keep: f32,
    /// lr/(1 − β₁ᵗ); or what a moving average adds.
    pub rate: f32,
}

/// The parameters of one launch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    entries: Vec<Entry>,
    blocks: usize,
}

impl Table {
    /// A table of these parameters; empty ones are left out.
    ///
    /// # Errors
    /// When there are more elements than one launch takes (2⁴⁴).
    pub fn new(parameters: impl IntoIterator<Item = Parameter>) -> Result<Self, Unsupported> {
        let mut table = Self::default();
        for p in parameters {
            if p.length == 0 {
                continue;
            }
            table.entries.push(Entry {
                parameter: p.parameter,
                gradient: p.gradient,
                m: p.m,
                v: p.v,
                length: p.length as u64,
                first_block: count("adamw: blocks", table.blocks)?,
                keep: p.keep,
                rate: p.rate,
                padding: 0,
            });
            table.blocks = table.blocks.saturating_add(p.length.div_ceil(PART));
        }
        // A grid has at most 2³¹ − 1 blocks.
        count("adamw: blocks", table.blocks.saturating_mul(2))?;
        Ok(table)
    }

    /// Blocks of a launch, and numbers that [`Self::sums_of_squares`] gives.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// What has to lie at the address that the launches are given.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * size_of::<Entry>());
        for e in &self.entries {
            for pointer in [e.parameter, e.gradient, e.m, e.v] {
                bytes.extend(pointer.address().to_ne_bytes());
            }
            bytes.extend(e.length.to_ne_bytes());
            bytes.extend(e.first_block.to_ne_bytes());
            bytes.extend(e.keep.to_ne_bytes());
            bytes.extend(e.rate.to_ne_bytes());
            bytes.extend(e.padding.to_ne_bytes());
        }
        bytes
    }

    fn launch(&self, function: &str, block: u32, arguments: Vec<Argument>) -> Launch {
        Launch {
            module: "adamw".to_owned(),
            function: function.to_owned(),
            grid: [self.blocks as u32, 1, 1],
            block,
            shared: 0,
            arguments,
        }
    }

    /// Takes the gradients into m and v and moves the parameters. `root` and `eps`
    /// are those of [`crate::adamw::Step`]. There is nothing to run where the table is
    /// empty.
    pub fn step(&self, table: Pointer, moments: &Moments, root: f32, eps: f32) -> Option<Launch> {
        let entries = U32(self.entries.len() as u32);
        let Moments {
            beta2,
            rest1,
            rest2,
            scale,
            ..
        } = *moments;
        let numbers = [beta2, rest1, rest2, scale, root, eps].map(F32);
        let arguments = [Argument::Pointer(table), entries]
            .into_iter()
            .chain(numbers)
            .collect();
        (self.blocks > 0).then(|| self.launch("adamw", 256, arguments))
    }

    /// parameter ← keep·parameter + rate·gradient.
    pub fn blend(&self, table: Pointer) -> Option<Launch> {
        let arguments = vec![Argument::Pointer(table), U32(self.entries.len() as u32)];
        (self.blocks > 0).then(|| self.launch("blend", 256, arguments))
    }

    /// Σ gradient² of each block's part into `sums`, [`Self::blocks`] `f64`s.
    pub fn sums_of_squares(&self, sums: Pointer, table: Pointer) -> Option<Launch> {
        let arguments = vec![
            Argument::Pointer(sums),
            Argument::Pointer(table),
            U32(self.entries.len() as u32),
        ];
        (self.blocks > 0).then(|| self.launch("sums_of_squares", WARP, arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_dealt_out_in_order_and_empty_parameters_get_none() {
        let of = |length| Parameter {
            parameter: Pointer::new(8),
            gradient: Pointer::new(8),
            m: Pointer::new(8),
            v: Pointer::new(8),
            length,
            keep: 1.0,
            rate: 0.0,
        };
        let table = Table::new([of(1), of(0), of(PART + 1), of(PART)]).expect("small");
        let first: Vec<u32> = table.entries.iter().map(|e| e.first_block).collect();
        assert_eq!((first, table.blocks()), (vec![0, 1, 3], 4));
        assert_eq!(table.bytes().len(), 3 * size_of::<Entry>());
        assert_eq!(Table::default().blend(Pointer::NONE), None);
    }
}
