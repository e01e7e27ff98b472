// GELU in its erf form, x·Φ(x), with the bias (f32) of the linear layer before it.
//
// A thread owns W columns, reads their bias once and goes down the rows.
//
// Mirrors src/gelu.rs; launched by src/cuda/gelu.rs.
#include "common.cuh"

namespace {

DEVICE float cdf(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118654752f)); }

DEVICE float density(float x) { return 0.39894228040143268f * expf(-0.5f * x * x); }

// `bias` may be null.
template <typename T, int W, typename F>
DEVICE void each(const float *bias, uint32_t rows, uint32_t columns, const F &body) {
    const uint32_t column = (blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (column >= columns) return;
    Pack<float, W> b = {};
    if (bias) b = load<W>(bias + column);
    for (uint32_t row = blockIdx.y; row < rows; row += gridDim.y) body(size_t(row) * columns + column, b);
}

template <typename T, int W>
DEVICE void forward(T *y, const T *x, const float *bias, uint32_t rows, uint32_t columns) {
    each<T, W>(bias, rows, columns, [&](size_t at, const Pack<float, W> &b) {
        auto pack = load<W>(x + at);
        for (int e = 0; e < W; e++) {
            const float v = widen(pack.at[e]) + b.at[e];
            pack.at[e] = narrow<T>(v * cdf(v));
        }
        store(y + at, pack);
    });
}

// dx = grad·(Φ(v) + v·φ(v)) with v = x + bias, and, where `y` is not null, gelu(v) again.
// dx may lie where grad does.
template <typename T, int W>
DEVICE void backward(T *dx, T *y, const T *x, const float *bias, const T *grad, uint32_t rows, uint32_t columns) {
    each<T, W>(bias, rows, columns, [&](size_t at, const Pack<float, W> &b) {
        auto pack = load<W>(x + at), g = load<W>(grad + at);
        for (int e = 0; e < W; e++) {
            const float v = widen(pack.at[e]) + b.at[e], phi = cdf(v);
            pack.at[e] = narrow<T>(v * phi);
            g.at[e] = narrow<T>(widen(g.at[e]) * (phi + v * density(v)));
        }
        store(dx + at, g);
        if (y) store(y + at, pack);
    });
}

} // namespace

#define GELU(suffix, T)                                                                                                \
    KERNEL gelu_##suffix(T *y, const T *x, const float *bias, uint32_t rows, uint32_t columns) {                       \
        forward<T, 1>(y, x, bias, rows, columns);                                                                      \
    }                                                                                                                  \
    KERNEL gelu_##suffix##_x4(T *y, const T *x, const float *bias, uint32_t rows, uint32_t columns) {                  \
        forward<T, 4>(y, x, bias, rows, columns);                                                                      \
    }                                                                                                                  \
    KERNEL gelu_backward_##suffix(T *dx, T *y, const T *x, const float *bias, const T *grad, uint32_t rows,            \
                                  uint32_t columns) {                                                                  \
        backward<T, 1>(dx, y, x, bias, grad, rows, columns);                                                           \
    }                                                                                                                  \
    KERNEL gelu_backward_##suffix##_x4(T *dx, T *y, const T *x, const float *bias, const T *grad, uint32_t rows,       \
                                       uint32_t columns) {                                                             \
        backward<T, 4>(dx, y, x, bias, grad, rows, columns);                                                           \
    }                                                                                                                  \
    REGISTER(gelu_##suffix)                                                                                            \
    REGISTER(gelu_##suffix##_x4)                                                                                       \
    REGISTER(gelu_backward_##suffix)                                                                                   \
    REGISTER(gelu_backward_##suffix##_x4)

FOR_EACH_TYPE(GELU)
