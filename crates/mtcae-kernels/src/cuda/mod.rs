//! The kernels of `cuda/` for NVIDIA GPUs: which one computes what, and how it is
//! launched.
//!
//! Everything here is a pure function from sizes, types and pointers to a
//! [`Launch`]: which kernel for which shape and type is decided, and tested, without
//! a GPU. Who has a GPU (`mtcae-nn`) runs the launches; so does the pretend one
//! (`scripts/pretend_gpu.sh`), on the CPU.
//!
//! | module | kernel |
//! |---|---|
//! | [`tubes`] | 8-bit clips to normalised tubes |
//! | [`layer_norm`] | LayerNorm, residual + LayerNorm, backward |
//! | [`gelu`] | bias + GELU, backward |
//! | [`attention`] | attention of any head dimension up to 256, backward |
//! | [`adamw`] | AdamW, moving averages, sums of squares over all parameters at once |
//! | [`cross_entropy`] | cross-entropy, backward |
//! | [`product`] | a linear layer's matrix products, as cuBLAS takes them |
//! | [`rows`] | residual sums with a bias, and a bias's gradient |
//! | [`conv`] | convolutions with few channels, fused with bias and PReLU; dense layers |
//! | [`pool`] | max pooling in ceil mode |
//! | [`area`] | area resampling of 8-bit pictures |
//!
//! Every [`Pointer`] is one of the machine that the launch runs on. Operands are
//! contiguous, row-major and of type [`Element`] unless said otherwise.

pub mod adamw;
pub mod area;
pub mod attention;
#[cfg(feature = "cuda")]
mod binaries;
#[cfg(feature = "checks")]
pub mod checks;
pub mod conv;
pub mod cross_entropy;
pub mod gelu;
pub mod layer_norm;
mod modules;
pub mod pool;
pub mod product;
pub mod rows;
pub mod tubes;

/// The type of a kernel's operands. Sums and statistics are `f32` throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32 bits. Products are computed in 3xTF32, which is as exact as `f32`.
    F32,
    /// Brain float: 8 bits of significand.
    Bf16,
    /// IEEE half: 11 bits of significand.
    F16,
}

impl Element {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// The end of its kernels' names.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Bytes.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

/// Where an operand lies, on the machine that runs the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Pointer(u64);

impl Pointer {
    /// Of no operand.
    pub const NONE: Self = Self(0);

    /// At an address of the machine's.
    pub fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address.
    pub fn address(self) -> u64 {
        self.0
    }

    /// `n` elements of so many bytes further on.
    #[must_use]
    pub fn after(self, n: usize, bytes: usize) -> Self {
        Self(self.0 + (n * bytes) as u64)
    }

    /// Whether the address is a multiple of so many bytes.
    pub fn is_aligned(self, bytes: usize) -> bool {
        self.0.is_multiple_of(bytes as u64)
    }
}

impl AsRef<u64> for Pointer {
    /// The address, as a launch takes it.
    fn as_ref(&self) -> &u64 {
        &self.0
    }
}

/// One argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// Where an operand lies.
    Pointer(Pointer),
    /// A whole number.
    U32(u32),
    /// A real number.
    F32(f32),
}

/// A kernel with its arguments, ready to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The module of `cuda/` that the kernel is in.
    pub module: String,
    /// The kernel's name.
    pub function: String,
    /// Blocks along x, y, z; none where there is nothing to compute.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// What the kernel is given, in its order.
    pub arguments: Vec<Argument>,
}

impl Launch {
    /// Without dynamic shared memory.
    fn new(
        module: &str,
        function: String,
        grid: [u32; 3],
        block: u32,
        arguments: Vec<Argument>,
    ) -> Self {
        Self {
            module: module.to_owned(),
            function,
            grid,
            block,
            shared: 0,
            arguments,
        }
    }
}

/// Arguments: operands, then numbers.
fn arguments(pointers: &[Pointer], numbers: impl IntoIterator<Item = Argument>) -> Vec<Argument> {
    let pointers = pointers.iter().copied().map(Argument::Pointer);
    pointers.chain(numbers).collect()
}

/// Sizes as the kernels take them.
fn sizes<const N: usize>(what: &str, sizes: [usize; N]) -> Result<[Argument; N], Unsupported> {
    let mut all = [Argument::U32(0); N];
    for (argument, n) in all.iter_mut().zip(sizes) {
        *argument = Argument::U32(count(what, n)?);
    }
    Ok(all)
}

/// No kernel takes operands like these; says which, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(String);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}

/// A [`Launch::module`] as the driver loads it: machine code for compute capability 8.0
/// and 9.0, and PTX for the others from 8.0 on. It has no bytes where something else than
/// CUDA's compiler made it.
#[cfg(feature = "cuda")]
pub fn binary(module: &str) -> Option<&'static [u8]> {
    binaries::binary(module)
}

/// The CUDA that the modules were made with: a driver of an older one refuses them.
#[cfg(feature = "cuda")]
pub const RELEASE: (u32, u32) = binaries::RELEASE;

/// The oldest compute capability that has what the kernels use.
pub const OLDEST: (u32, u32) = (8, 0);

/// Shared memory that a block can have on every GPU from [`OLDEST`] on.
pub const SHARED_LIMIT: u32 = 99 * 1024;

const WARP: u32 = 32;

/// A size as the kernels take it.
fn count(what: &str, n: usize) -> Result<u32, Unsupported> {
    u32::try_from(n)
        .map_err(|_| Unsupported(format!("{what}: {n} is more than a kernel can count")))
}

/// The second or third extent of a grid.
fn rows_of_grid(what: &str, n: usize) -> Result<u32, Unsupported> {
    match n {
        0..=65_535 => Ok(n as u32),
        _ => Err(Unsupported(format!(
            "{what}: {n} is more than the 65535 that one launch takes"
        ))),
    }
}

/// Whether rows of `width` elements can be read four at a time: `pointers` are
/// those of operands with as many bytes an element as stand beside them.
fn by_four(width: usize, pointers: &[(Pointer, usize)]) -> bool {
    width.is_multiple_of(4) && pointers.iter().all(|&(at, size)| at.is_aligned(4 * size))
}

/// `_x4` for kernels that read four elements at a time.
fn pack_suffix(four: bool) -> &'static str {
    if four { "_x4" } else { "" }
}

/// Threads of a block whose threads own columns.
const COLUMN_THREADS: usize = 128;

/// The grid of blocks whose threads own columns and go down the rows: beyond so many
/// blocks along the rows, a block goes on to further rows.
fn column_grid(kernel: &str, rows: usize, threads: usize) -> Result<[u32; 3], Unsupported> {
    const ROWS: usize = 4096;
    Ok([
        count(
            &format!("{kernel}: columns"),
            threads.div_ceil(COLUMN_THREADS),
        )?,
        rows.min(ROWS) as u32,
        1,
    ])
}

/// The launch of a kernel whose threads own one column each, or four, and go down the
/// rows; each operand has a type of its own.
fn down_columns(
    module: &str,
    kernel: &str,
    element: Element,
    operands: &[(Pointer, Element)],
    rows: usize,
    columns: usize,
) -> Result<Launch, Unsupported> {
    let bytes: Vec<_> = operands.iter().map(|&(a, of)| (a, of.size())).collect();
    let four = by_four(columns, &bytes);
    let threads = columns.div_ceil(if four { 4 } else { 1 });
    let pointers: Vec<_> = operands.iter().map(|&(a, _)| a).collect();
    Ok(Launch::new(
        module,
        format!("{kernel}_{}{}", element.suffix(), pack_suffix(four)),
        column_grid(kernel, rows, threads)?,
        COLUMN_THREADS as u32,
        arguments(&pointers, sizes(kernel, [rows, columns])?),
    ))
}

/// How many rows a slab has, and how many slabs there are, for sums over rows in two
/// steps: enough slabs to fill a GPU, few enough for the second step to be small. It
/// depends on the rows alone, so that results repeat.
fn slabs(rows: usize) -> (usize, usize) {
    let slab = rows.div_ceil(64).max(32);
    (slab, rows.div_ceil(slab).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_need_a_width_and_addresses_that_four_elements_divide() {
        let at = |address, size| (Pointer::new(address), size);
        assert!(by_four(512, &[at(256, 4), at(264, 2)]));
        assert!(!by_four(510, &[at(256, 4)]));
        assert!(!by_four(512, &[at(260, 4)]));
        assert!(!by_four(512, &[at(256, 4), at(260, 2)]));
    }

    #[test]
    fn slabs_cover_all_rows_and_stay_few() {
        for rows in [0, 1, 31, 32, 33, 1568, 12_544, 1_000_003] {
            let (slab, slabs) = slabs(rows);
            assert!(
                slab * slabs >= rows && slabs <= 64,
                "{rows}: {slabs} × {slab}"
            );
            assert!(
                rows == 0 || slab * (slabs - 1) < rows,
                "{rows}: an empty slab"
            );
        }
    }

    #[test]
    fn sizes_beyond_a_launch_are_refused_by_name() {
        let error = rows_of_grid("gelu: rows", 65_536).expect_err("too many");
        assert!(error.to_string().contains("gelu: rows"), "{error}");
    }
}
