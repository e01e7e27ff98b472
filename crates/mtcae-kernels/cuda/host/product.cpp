// Products of matrices on the CPU (product.h). Sums are kept in f32, as cuBLAS keeps
// them, or in f64 where that is asked for.
#include "product.h"
#include "device.h"

#include <algorithm>
#include <thread>
#include <vector>

namespace pretend {

namespace {

const char *name_of(int type) { return type == F32 ? "f32" : type == F64 ? "f64" : type == F16 ? "f16" : "bf16"; }

double element(Address at, int type, int64_t i) {
    switch (type) {
        case F32: return reinterpret_cast<const float *>(at)[i];
        case F64: return reinterpret_cast<const double *>(at)[i];
        case F16: return __half2float(reinterpret_cast<const f16 *>(at)[i]);
        default: return __bfloat162float(reinterpret_cast<const bf16 *>(at)[i]);
    }
}

void set_element(Address at, int type, int64_t i, double x) {
    switch (type) {
        case F32: reinterpret_cast<float *>(at)[i] = float(x); break;
        case F64: reinterpret_cast<double *>(at)[i] = x; break;
        case F16: reinterpret_cast<f16 *>(at)[i] = __float2half(float(x)); break;
        default: reinterpret_cast<bf16 *>(at)[i] = __float2bfloat16(float(x));
    }
}

size_t count(const Matrix &matrix) { return size_t(matrix.rows * matrix.columns); }

// Whether a matrix lies in memory with all of its batch.
bool lies(const Product &product, const char *which, const Matrix &matrix) {
    if (count(matrix) == 0) return true;
    const int64_t last = (product.batch - 1) * matrix.stride + (matrix.columns - 1) * matrix.ld + matrix.rows;
    const size_t needs = size_t(last) * size_of(matrix.type), has = room(matrix.at);
    if (needs <= has && matrix.at % size_of(matrix.type) == 0) return true;
    complain("%s: %s needs %zu bytes at 0x%llx, which has room for %zu", product.name, which, needs, matrix.at, has);
    return false;
}

bool valid(const Product &p) {
    for (const Matrix *matrix : {&p.a, &p.b, &p.c, &p.d})
        if (!size_of(matrix->type) || matrix->rows < 0 || matrix->columns < 0 || matrix->ld < std::max<int64_t>(1, matrix->rows))
            return false;
    return p.batch >= 0;
}

// op(matrix), rounded as the product takes it, column after column.
template <typename W> std::vector<W> packed(const Product &p, const Matrix &matrix, bool transpose, int64_t batch) {
    std::vector<W> all(count(matrix));
    const int64_t rows = transpose ? matrix.columns : matrix.rows, columns = transpose ? matrix.rows : matrix.columns;
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < rows; i++) {
            const int64_t at = batch * matrix.stride + (transpose ? i * matrix.ld + j : j * matrix.ld + i);
            W x = W(element(matrix.at, matrix.type, at));
            if (p.compute.tf32) {
                const uint32_t bits = round_tf32(float(x));
                float rounded;
                std::memcpy(&rounded, &bits, sizeof rounded);
                x = W(rounded);
            }
            all[size_t(j * rows + i)] = x;
        }
    }
    return all;
}

template <typename W> void columns(const Product &p, int64_t batch, const W *a, const W *b, int64_t from, int64_t to) {
    std::vector<W> sums(size_t(p.m));
    for (int64_t j = from; j < to; j++) {
        std::fill(sums.begin(), sums.end(), W(0));
        for (int64_t k = 0; k < p.k; k++) {
            const W y = b[j * p.k + k];
            const W *x = a + k * p.m;
            for (int64_t i = 0; i < p.m; i++) sums[size_t(i)] += x[i] * y;
        }
        for (int64_t i = 0; i < p.m; i++) {
            W result = W(p.alpha) * sums[size_t(i)];
            if (p.beta != 0) result += W(p.beta) * W(element(p.c.at, p.c.type, batch * p.c.stride + j * p.c.ld + i));
            if (p.epilogue == BIAS) result += W(element(p.bias, p.bias_type, i));
            set_element(p.d.at, p.d.type, batch * p.d.stride + j * p.d.ld + i, double(result));
        }
    }
}

template <typename W> void compute(const Product &p) {
    for (int64_t batch = 0; batch < p.batch; batch++) {
        const std::vector<W> a = packed<W>(p, p.a, p.transpose_a, batch), b = packed<W>(p, p.b, p.transpose_b, batch);
        const int64_t most = p.m * p.n * p.k > 1 << 20 ? std::max(1u, std::thread::hardware_concurrency()) : 1;
        const int64_t each = (p.n + most - 1) / most;
        std::vector<std::thread> threads;
        for (int64_t from = each; from < p.n; from += each)
            threads.emplace_back([&, from] { columns(p, batch, a.data(), b.data(), from, std::min(from + each, p.n)); });
        columns(p, batch, a.data(), b.data(), 0, std::min(each, p.n));
        for (std::thread &thread : threads) thread.join();
        for (int64_t i = 0; p.epilogue == BIAS_GRADIENT_A && i < p.m; i++) {
            W sum = 0;
            for (int64_t k = 0; k < p.k; k++) sum += a[size_t(k * p.m + i)];
            set_element(p.bias, p.bias_type, i, double(sum));
        }
        for (int64_t j = 0; p.epilogue == BIAS_GRADIENT_B && j < p.n; j++) {
            W sum = 0;
            for (int64_t k = 0; k < p.k; k++) sum += b[size_t(j * p.k + k)];
            set_element(p.bias, p.bias_type, j, double(sum));
        }
    }
}

size_t bytes(const Product &p, const Matrix &matrix) {
    return count(matrix) * size_of(matrix.type) * size_t(matrix.stride ? p.batch : 1);
}

void note(const Product &p, size_t bias_bytes) {
    std::string shape, types = std::string(name_of(p.a.type)) + "*" + name_of(p.b.type) + ">" + name_of(p.d.type);
    for (const int64_t n : {p.m, p.n, p.k}) shape += std::to_string(n) + ",";
    shape += std::to_string(p.batch) + (p.transpose_a ? " T" : " N") + (p.transpose_b ? "T" : "N");
    if (p.epilogue == BIAS) types += " bias";
    if (p.epilogue == BIAS_GRADIENT_A || p.epilogue == BIAS_GRADIENT_B) types += " bias gradient";
    if (p.beta != 0) types += " +C";
    trace("product", p.name, shape, types, bytes(p, p.a) + bytes(p, p.b) + bytes(p, p.d) + bias_bytes +
                                               (p.beta != 0 ? bytes(p, p.c) : 0));
}

} // namespace

size_t size_of(int type) {
    switch (type) {
        case F32: return 4;
        case F64: return 8;
        case F16: case BF16: return 2;
        default: return 0;
    }
}

bool read_compute(int type, Compute &compute) {
    switch (type) {
        case 64: case 65: compute.scale = F16; return true;            // 16F: sums in f32 here
        case 68: case 69: case 74: case 75: return true;               // 32F
        case 77: compute.tf32 = true; return true;                     // 32F_FAST_TF32
        case 70: case 71: compute = {true, false, F64}; return true;   // 64F
        default: return false;
    }
}

double scalar(const void *at, int type) { return element(reinterpret_cast<Address>(at), type, 0); }

int multiply(const Product &p) {
    const std::lock_guard<std::recursive_mutex> guard(mutex());
    if (sticky()) return CUBLAS_EXECUTION_FAILED;
    if (!in_context()) return CUBLAS_NOT_INITIALIZED;
    if (!valid(p)) return CUBLAS_INVALID_VALUE;
    if (count(p.d) == 0 || p.batch == 0) return CUBLAS_OK;
    if (strikes(Fault::Refuse, p.name)) return CUBLAS_EXECUTION_FAILED;
    if (strikes(Fault::Hang, p.name)) hang();
    if (strikes(Fault::Sticky, p.name)) {
        stick(LAUNCH_FAILED);
        return CUBLAS_EXECUTION_FAILED;
    }
    size_t bias_bytes = 0;
    if (p.epilogue != PLAIN) {
        const int64_t length = p.epilogue == BIAS_GRADIENT_B ? p.n : p.m;
        const Matrix bias = {p.bias, p.bias_type, length, 1, length, 0};
        bias_bytes = size_t(length) * size_of(p.bias_type);
        if (!size_of(p.bias_type) || p.batch != 1) return CUBLAS_NOT_SUPPORTED;
        if (!lies(p, "the bias", bias)) {
            stick(ILLEGAL_ADDRESS);
            return CUBLAS_EXECUTION_FAILED;
        }
    }
    if (!lies(p, "A", p.a) || !lies(p, "B", p.b) || !lies(p, "D", p.d) || (p.beta != 0 && !lies(p, "C", p.c))) {
        stick(ILLEGAL_ADDRESS);
        return CUBLAS_EXECUTION_FAILED;
    }
    note(p, bias_bytes);
    if (settings().count) return CUBLAS_OK;
    if (p.compute.f64) compute<double>(p);
    else compute<float>(p);
    if (strikes(Fault::Wrong, p.name)) {
        const Address last = p.d.at + size_of(p.d.type) - 1;
        *reinterpret_cast<unsigned char *>(last) ^= 0x40;
    }
    return CUBLAS_OK;
}

} // namespace pretend
