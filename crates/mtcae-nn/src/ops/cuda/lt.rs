//! Products that add a bias, a residual or sum a bias's gradient themselves, on cuBLASLt.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::cuda_backend::cudarc::cublas::sys as cublas;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys::{
    self, cublasLtMatmulDescAttributes_t as Attribute,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{CudaDevice, DType, Result};
use mtcae_kernels::cuda::Pointer;
use mtcae_kernels::cuda::product::Product;

/// What a product does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Epilogue {
    /// Adds a bias to the rows of C, of the result's type.
    Bias,
    /// Sums the rows of B over what is summed over: the gradient of a bias, of the
    /// result's type.
    SumOfB,
}

impl Epilogue {
    fn code(self) -> sys::cublasLtEpilogue_t {
        match self {
            Self::Bias => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            Self::SumOfB => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BGRADB,
        }
    }
}

/// A product with what it does besides.
pub(super) struct Fused {
    pub(super) product: Product,
    pub(super) operands: [Pointer; 2],
    /// The type of the operands.
    pub(super) dtype: DType,
    pub(super) out: (Pointer, DType),
    /// A matrix like the result that is added to it.
    pub(super) onto: Option<Pointer>,
    pub(super) epilogue: Epilogue,
    /// The bias, or where its gradient goes.
    pub(super) vector: Pointer,
}

/// A product: its sizes, the types of operands and result, whether TF32 is allowed, what
/// it does besides, and whether it is added to something.
type Key = (Product, DType, DType, bool, Epilogue, bool);

struct Library {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    /// What was chosen for a product like one before; nothing where there is no such
    /// product.
    chosen: HashMap<Key, Option<sys::cublasLtMatmulAlgo_t>>,
}

// SAFETY: cuBLASLt's handle is the library's own state, which any thread may use; here
// one does at a time, as a lock is held.
unsafe impl Send for Library {}

/// One for each device, as long as the process: a handle takes milliseconds to make.
static LIBRARIES: Mutex<Vec<(candle_core::cuda_backend::DeviceId, Library)>> =
    Mutex::new(Vec::new());

/// Memory that products may use besides, as NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// cuBLASLt's word for what went wrong.
trait Said<T> {
    fn said(self) -> Result<T>;
}

impl<T> Said<T> for std::result::Result<T, CublasError> {
    fn said(self) -> Result<T> {
        self.map_err(|e| candle_core::Error::Msg(format!("linear: cuBLASLt: {e}")))
    }
}

/// A description that the library made, given back at the end.
struct Owned<T: Copy>(T, unsafe fn(T) -> std::result::Result<(), CublasError>);

impl<T: Copy> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the library made it, and nothing else gives it back. That it cannot be
        // given back would be its memory lost, and nothing that a drop could say.
        let _ = unsafe { (self.1)(self.0) };
    }
}

/// What cuBLAS calls a type.
pub(super) fn data_type(dtype: DType) -> Result<cublas::cudaDataType_t> {
    match dtype {
        DType::F32 => Ok(cublas::cudaDataType_t::CUDA_R_32F),
        DType::BF16 => Ok(cublas::cudaDataType_t::CUDA_R_16BF),
        DType::F16 => Ok(cublas::cudaDataType_t::CUDA_R_16F),
        other => candle_core::bail!("linear: there is no product of {other:?}"),
    }
}

/// Rows and columns of an operand as it lies.
fn layout(
    dtype: DType,
    transposed: bool,
    (rows, columns): (i32, i32),
    leading: i32,
) -> Result<Owned<sys::cublasLtMatrixLayout_t>> {
    let (rows, columns) = if transposed {
        (columns, rows)
    } else {
        (rows, columns)
    };
    let (rows, columns) = (i64::from(rows) as u64, i64::from(columns) as u64);
    let made =
        result::create_matrix_layout(lt_type(dtype)?, rows, columns, leading.into()).said()?;
    Ok(Owned(made, result::destroy_matrix_layout))
}

/// The same numbers as cuBLAS's, in the bindings of cuBLASLt.
fn lt_type(dtype: DType) -> Result<sys::cudaDataType> {
    Ok(match data_type(dtype)? {
        cublas::cudaDataType_t::CUDA_R_16BF => sys::cudaDataType_t::CUDA_R_16BF,
        cublas::cudaDataType_t::CUDA_R_16F => sys::cudaDataType_t::CUDA_R_16F,
        _ => sys::cudaDataType_t::CUDA_R_32F,
    })
}

fn set<T>(of: &Owned<sys::cublasLtMatmulDesc_t>, attribute: Attribute, value: &T) -> Result<()> {
    // SAFETY: the attribute is of the value's type, which is read before the call returns.
    unsafe {
        result::set_matmul_desc_attribute(
            of.0,
            attribute,
            std::ptr::from_ref(value).cast::<c_void>(),
            size_of::<T>(),
        )
    }
    .said()
}

/// Whether products of a type may round their operands to TF32.
fn allows_tf32(dtype: DType) -> bool {
    dtype == DType::F32 && candle_core::cuda::gemm_reduced_precision_f32()
}

/// A product's description.
fn describe(of: &Fused) -> Result<Owned<sys::cublasLtMatmulDesc_t>> {
    let compute = match allows_tf32(of.dtype) {
        true => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        false => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let made = result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F).said()?;
    let description = Owned(made, result::destroy_matmul_desc);
    let [a, b] = of.product.transposed.map(|t| match t {
        true => cublas::cublasOperation_t::CUBLAS_OP_T as i32,
        false => cublas::cublasOperation_t::CUBLAS_OP_N as i32,
    });
    set(&description, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &a)?;
    set(&description, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &b)?;
    let epilogue = of.epilogue.code();
    set(
        &description,
        Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE,
        &epilogue,
    )?;
    set(
        &description,
        Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER,
        of.vector.as_ref(),
    )?;
    Ok(description)
}

/// The library of a device, made on the first call.
fn library(
    device: &CudaDevice,
) -> Result<MutexGuard<'static, Vec<(candle_core::cuda_backend::DeviceId, Library)>>> {
    let mut all = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    if !all.iter().any(|(id, _)| *id == device.id()) {
        let handle = result::create_handle().said()?;
        // SAFETY: products alone use it, which write before they read.
        let workspace = unsafe { device.alloc::<u8>(WORKSPACE) }?;
        all.push((
            device.id(),
            Library {
                handle,
                workspace,
                chosen: HashMap::new(),
            },
        ));
    }
    Ok(all)
}

/// Runs a product; false where the library has none with such an epilogue.
///
/// # Safety
/// The pointers must be to matrices and to a vector of the product's sizes and
/// types.
pub(super) unsafe fn run(device: &CudaDevice, of: &Fused) -> Result<bool> {
    let p = of.product;
    let description = describe(of)?;
    let [a_transposed, b_transposed] = p.transposed;
    let a = layout(of.dtype, a_transposed, (p.m, p.k), p.leading[0])?;
    let b = layout(of.dtype, b_transposed, (p.k, p.n), p.leading[1])?;
    let c = layout(of.out.1, false, (p.m, p.n), p.leading[2])?;
    let mut all = library(device)?;
    let Some((_, library)) = all.iter_mut().find(|(id, _)| *id == device.id()) else {
        candle_core::bail!("linear: cuBLASLt has no handle for the device");
    };
    let (tf32, onto) = (allows_tf32(of.dtype), of.onto.is_some());
    let key = (p, of.dtype, of.out.1, tf32, of.epilogue, onto);
    let chosen = match library.chosen.get(&key) {
        Some(chosen) => *chosen,
        None => {
            let found = choose(library, &description, [&a, &b, &c])?;
            library.chosen.insert(key, found);
            found
        }
    };
    let Some(algorithm) = chosen else {
        return Ok(false);
    };
    let stream = device.cuda_stream();
    let (one, beta) = (1.0_f32, if of.onto.is_some() { 1.0_f32 } else { 0.0 });
    // SAFETY: the descriptions and numbers live until the call returns; the workspace is
    // this stream's alone; the rest is the caller's promise.
    unsafe {
        result::matmul(
            library.handle,
            description.0,
            (&raw const one).cast(),
            (&raw const beta).cast(),
            of.operands[0].address() as *const c_void,
            a.0,
            of.operands[1].address() as *const c_void,
            b.0,
            of.onto.unwrap_or(of.out.0).address() as *const c_void,
            c.0,
            of.out.0.address() as *mut c_void,
            c.0,
            &raw const algorithm,
            library.workspace.device_ptr(&stream).0 as *mut c_void,
            WORKSPACE,
            stream.cu_stream().cast(),
        )
    }
    .said()?;
    Ok(true)
}

/// What the library thinks the fastest; nothing where it has no such product.
fn choose(
    library: &Library,
    description: &Owned<sys::cublasLtMatmulDesc_t>,
    [a, b, c]: [&Owned<sys::cublasLtMatrixLayout_t>; 3],
) -> Result<Option<sys::cublasLtMatmulAlgo_t>> {
    use sys::cublasLtMatmulPreferenceAttributes_t as Preference;
    let preference = Owned(
        result::create_matmul_pref().said()?,
        result::destroy_matmul_pref,
    );
    let set = |attribute, value: *const c_void, size| {
        // SAFETY: the attribute is of that size, and is read before the call returns.
        unsafe { result::set_matmul_pref_attribute(preference.0, attribute, value, size) }.said()
    };
    let most = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    set(most, (&raw const WORKSPACE_BYTES).cast(), size_of::<u64>())?;
    for operand in [
        Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
    ] {
        set(operand, (&raw const ALIGNMENT).cast(), size_of::<u32>())?;
    }
    // SAFETY: all descriptions are alive.
    let found = unsafe {
        result::get_matmul_algo_heuristic(
            library.handle,
            description.0,
            a.0,
            b.0,
            c.0,
            c.0,
            preference.0,
        )
    };
    match found {
        Ok(found) => Ok(Some(found.algo)),
        Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => Ok(None),
        Err(error) => Err(error).said(),
    }
}

static WORKSPACE_BYTES: u64 = WORKSPACE as u64;

/// Bytes that all addresses are multiples of (`Product::in_sixteens`).
static ALIGNMENT: u32 = 16;
