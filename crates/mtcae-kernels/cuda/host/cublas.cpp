// A stand-in for cuBLAS on the pretend GPU (driver.cpp).
#include "product.h"

using namespace pretend;

namespace {

struct Blas {
    Handle stream = nullptr;
    int math = 0;
};

constexpr int DEVICE_SCALARS = 1, TF32_MATH = 3;

// cublasOperation_t: as it is, transposed, and conjugated too, which is the same here.
bool is_operation(int operation) { return operation >= 0 && operation <= 2; }

int strided(const char *name, Handle handle, int ta, int tb, int m, int n, int k, Compute compute, const void *alpha,
            Matrix a, Matrix b, const void *beta, Matrix c, int batch) {
    if (!handle) return CUBLAS_NOT_INITIALIZED;
    if (!is_operation(ta) || !is_operation(tb) || m < 0 || n < 0 || k < 0) return CUBLAS_INVALID_VALUE;
    a.rows = ta ? k : m, a.columns = ta ? m : k;
    b.rows = tb ? n : k, b.columns = tb ? k : n;
    c.rows = m, c.columns = n;
    if (static_cast<Blas *>(handle)->math == TF32_MATH && a.type == F32 && !compute.f64) compute.tf32 = true;
    return multiply({name, ta != 0, tb != 0, m, n, k, batch, a, b, c, c, compute, scalar(alpha, compute.scale),
                     scalar(beta, compute.scale)});
}

Matrix matrix(const void *at, int type, int64_t ld, int64_t stride) {
    return {reinterpret_cast<Address>(at), type, 0, 0, ld, stride};
}

} // namespace

EXPORT int cublasCreate_v2(Handle *handle) {
    if (!in_context() || sticky()) return CUBLAS_NOT_INITIALIZED;
    *handle = new Blas;
    return CUBLAS_OK;
}

EXPORT int cublasDestroy_v2(Handle handle) {
    delete static_cast<Blas *>(handle);
    return handle ? CUBLAS_OK : CUBLAS_NOT_INITIALIZED;
}

EXPORT int cublasSetStream_v2(Handle handle, Handle stream) {
    if (!handle) return CUBLAS_NOT_INITIALIZED;
    if (!is_stream(stream)) return CUBLAS_INVALID_VALUE;
    static_cast<Blas *>(handle)->stream = stream;
    return CUBLAS_OK;
}

EXPORT int cublasGetStream_v2(Handle handle, Handle *stream) {
    if (!handle) return CUBLAS_NOT_INITIALIZED;
    *stream = static_cast<Blas *>(handle)->stream;
    return CUBLAS_OK;
}

EXPORT int cublasSetMathMode(Handle handle, int mode) {
    if (!handle) return CUBLAS_NOT_INITIALIZED;
    static_cast<Blas *>(handle)->math = mode;
    return CUBLAS_OK;
}

EXPORT int cublasSetWorkspace_v2(Handle handle, void *, size_t) { return handle ? CUBLAS_OK : CUBLAS_NOT_INITIALIZED; }

EXPORT int cublasSetPointerMode_v2(Handle handle, int mode) {
    if (!handle) return CUBLAS_NOT_INITIALIZED;
    return mode == DEVICE_SCALARS ? CUBLAS_NOT_SUPPORTED : CUBLAS_OK;
}

EXPORT int cublasGetVersion_v2(Handle, int *version) {
    *version = 130000;
    return CUBLAS_OK;
}

EXPORT int cublasGemmStridedBatchedEx(Handle handle, int ta, int tb, int m, int n, int k, const void *alpha,
                                      const void *a, int a_type, int lda, long long a_stride, const void *b, int b_type,
                                      int ldb, long long b_stride, const void *beta, void *c, int c_type, int ldc,
                                      long long c_stride, int batch, int compute_type, int) {
    Compute compute;
    if (!read_compute(compute_type, compute)) return CUBLAS_NOT_SUPPORTED;
    return strided("cublasGemmStridedBatchedEx", handle, ta, tb, m, n, k, compute, alpha,
                   matrix(a, a_type, lda, a_stride), matrix(b, b_type, ldb, b_stride), beta,
                   matrix(c, c_type, ldc, c_stride), batch);
}

EXPORT int cublasGemmEx(Handle handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int a_type,
                        int lda, const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                        int compute_type, int) {
    Compute compute;
    if (!read_compute(compute_type, compute)) return CUBLAS_NOT_SUPPORTED;
    return strided("cublasGemmEx", handle, ta, tb, m, n, k, compute, alpha, matrix(a, a_type, lda, 0),
                   matrix(b, b_type, ldb, 0), beta, matrix(c, c_type, ldc, 0), 1);
}

EXPORT int cublasSgemm_v2(Handle handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a,
                          int lda, const float *b, int ldb, const float *beta, float *c, int ldc) {
    return strided("cublasSgemm", handle, ta, tb, m, n, k, {}, alpha, matrix(a, F32, lda, 0), matrix(b, F32, ldb, 0),
                   beta, matrix(c, F32, ldc, 0), 1);
}

EXPORT int cublasSgemmStridedBatched(Handle handle, int ta, int tb, int m, int n, int k, const float *alpha,
                                     const float *a, int lda, long long a_stride, const float *b, int ldb,
                                     long long b_stride, const float *beta, float *c, int ldc, long long c_stride,
                                     int batch) {
    return strided("cublasSgemmStridedBatched", handle, ta, tb, m, n, k, {}, alpha, matrix(a, F32, lda, a_stride),
                   matrix(b, F32, ldb, b_stride), beta, matrix(c, F32, ldc, c_stride), batch);
}

EXPORT int cublasDgemmStridedBatched(Handle handle, int ta, int tb, int m, int n, int k, const double *alpha,
                                     const double *a, int lda, long long a_stride, const double *b, int ldb,
                                     long long b_stride, const double *beta, double *c, int ldc, long long c_stride,
                                     int batch) {
    return strided("cublasDgemmStridedBatched", handle, ta, tb, m, n, k, {true, false, F64}, alpha,
                   matrix(a, F64, lda, a_stride), matrix(b, F64, ldb, b_stride), beta, matrix(c, F64, ldc, c_stride),
                   batch);
}
