// LayerNorm over the last dimension: y = (x − μ)/√(σ² + ε)·γ + β.
//
// Statistics are two-pass and in f32, whatever the type of x: E[x²] − μ² loses
// half of its digits where |μ| ≫ σ. γ and β are f32. One warp works on one row; it
// reads the row three times, of which the second and third come from the cache.
//
// Mirrors src/layer_norm.rs; launched by src/cuda/layer_norm.rs.
#include "common.cuh"

namespace {

constexpr int ROWS = 4; // rows, and so warps, of a block

struct Statistics {
    float mean, rstd;
};

// Every W-th run of a row belongs to one lane.
#define FOR_EACH_RUN(i) for (int i = (threadIdx.x % WARP) * W; i < width; i += WARP * W)

template <typename T, int W> DEVICE Statistics statistics(const T *x, int width, float eps) {
    float sum = 0;
    FOR_EACH_RUN(i) {
        auto pack = load<W>(x + i);
        for (int e = 0; e < W; e++) sum += widen(pack.at[e]);
    }
    const float mean = warp_sum(sum) / width;
    float squares = 0;
    FOR_EACH_RUN(i) {
        auto pack = load<W>(x + i);
        for (int e = 0; e < W; e++) {
            const float centred = widen(pack.at[e]) - mean;
            squares += centred * centred;
        }
    }
    return {mean, 1.0f / sqrtf(warp_sum(squares) / width + eps)};
}

template <typename T, int W>
DEVICE void normalise(T *y, const T *x, const float *gamma, const float *beta, int width, float eps) {
    const Statistics s = statistics<T, W>(x, width, eps);
    FOR_EACH_RUN(i) {
        auto pack = load<W>(x + i);
        auto g = load<W>(gamma + i), b = load<W>(beta + i);
        for (int e = 0; e < W; e++) {
            pack.at[e] = narrow<T>((widen(pack.at[e]) - s.mean) * s.rstd * g.at[e] + b.at[e]);
        }
        store(y + i, pack);
    }
}

template <typename T, int W>
DEVICE void forward(T *y, const T *x, const float *gamma, const float *beta, uint32_t rows, uint32_t width, float eps) {
    const uint32_t row = blockIdx.x * ROWS + threadIdx.x / WARP;
    if (row >= rows) return;
    const size_t at = size_t(row) * width;
    normalise<T, W>(y + at, x + at, gamma, beta, int(width), eps);
}

// sum = x + s·(branch + bias), y = LayerNorm(sum): the residual of one half of a block and
// the norm of the next in one pass, with one s for each run of rows. `bias` and `scales`
// may be null, for 0 and 1.
template <typename T, int W>
DEVICE void residual(T *sums, T *y, const T *x, const T *branch, const float *bias, const float *scales, const float *gamma,
                     const float *beta, uint32_t rows, uint32_t width_, uint32_t run, float eps) {
    const uint32_t row = blockIdx.x * ROWS + threadIdx.x / WARP;
    if (row >= rows) return;
    const int width = int(width_);
    const size_t at = size_t(row) * width;
    T *sum = sums + at;
    const float s = scales ? scales[row / run] : 1.0f;
    FOR_EACH_RUN(i) {
        auto a = load<W>(x + at + i), b = load<W>(branch + at + i);
        Pack<float, W> add = {};
        if (bias) add = load<W>(bias + i);
        for (int e = 0; e < W; e++) a.at[e] = narrow<T>(widen(a.at[e]) + s * (widen(b.at[e]) + add.at[e]));
        store(sum + i, a);
    }
    // Each lane reads back what it wrote itself.
    normalise<T, W>(y + at, sum, gamma, beta, width, eps);
}

// dx = rstd·(d − mean(d) − x̂·mean(d·x̂)) with d = grad·γ, plus `around`, the gradient that
// goes past the norm, where it is not null. The statistics are kept for the gradients of
// γ and β.
template <typename T, int W>
DEVICE void backward_input(T *dx, float *kept, const T *x, const float *gamma, const T *grad, const T *around,
                           uint32_t rows, uint32_t width_, float eps) {
    const uint32_t row = blockIdx.x * ROWS + threadIdx.x / WARP;
    if (row >= rows) return;
    const int width = int(width_);
    const size_t at = size_t(row) * width;
    const Statistics s = statistics<T, W>(x + at, width, eps);
    float sum = 0, along = 0;
    FOR_EACH_RUN(i) {
        auto xs = load<W>(x + at + i), gs = load<W>(grad + at + i);
        auto scale = load<W>(gamma + i);
        for (int e = 0; e < W; e++) {
            const float d = widen(gs.at[e]) * scale.at[e];
            sum += d;
            along += d * ((widen(xs.at[e]) - s.mean) * s.rstd);
        }
    }
    const float mean = warp_sum(sum) / width, slope = warp_sum(along) / width;
    FOR_EACH_RUN(i) {
        auto xs = load<W>(x + at + i), gs = load<W>(grad + at + i);
        auto scale = load<W>(gamma + i);
        Pack<T, W> past = {};
        if (around) past = load<W>(around + at + i);
        for (int e = 0; e < W; e++) {
            const float hat = (widen(xs.at[e]) - s.mean) * s.rstd;
            const float d = s.rstd * (widen(gs.at[e]) * scale.at[e] - mean - hat * slope);
            xs.at[e] = narrow<T>(d + (around ? widen(past.at[e]) : 0.0f));
        }
        store(dx + at + i, xs);
    }
    if (threadIdx.x % WARP == 0) {
        kept[2 * size_t(row)] = s.mean;
        kept[2 * size_t(row) + 1] = s.rstd;
    }
}

// The parts of dγ = Σ grad·x̂ and dβ = Σ grad of a slab of rows: (slabs, 2, width). A
// block works on 32 columns of one slab; its warps take turns at the rows.
template <typename T>
DEVICE void backward_parameters(float *parts, const float *kept, const T *x, const T *grad, uint32_t rows,
                                uint32_t width, uint32_t slab) {
    constexpr int WARPS = 8;
    __shared__ float sums[WARPS][2][WARP];
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t column = blockIdx.x * WARP + lane;
    const uint32_t first = blockIdx.y * slab, end = first + slab < rows ? first + slab : rows;
    float dgamma = 0, dbeta = 0;
    if (column < width) {
        for (uint32_t row = first + warp; row < end; row += WARPS) {
            const size_t at = size_t(row) * width + column;
            const float mean = kept[2 * size_t(row)], rstd = kept[2 * size_t(row) + 1];
            const float g = widen(grad[at]);
            dgamma += g * ((widen(x[at]) - mean) * rstd);
            dbeta += g;
        }
    }
    sums[warp][0][lane] = dgamma;
    sums[warp][1][lane] = dbeta;
    __syncthreads();
    if (warp < 2 && column < width) {
        float sum = 0;
        for (int i = 0; i < WARPS; i++) sum += sums[i][warp][lane];
        parts[(size_t(blockIdx.y) * 2 + warp) * width + column] = sum;
    }
}

} // namespace

// Rows that allow it are read four elements at a time (`_x4`).
#define LAYER_NORM(suffix, T)                                                                                          \
    KERNEL layer_norm_##suffix(T *y, const T *x, const float *gamma, const float *beta, uint32_t rows,                 \
                               uint32_t width, float eps) {                                                            \
        forward<T, 1>(y, x, gamma, beta, rows, width, eps);                                                            \
    }                                                                                                                  \
    KERNEL layer_norm_##suffix##_x4(T *y, const T *x, const float *gamma, const float *beta, uint32_t rows,            \
                                    uint32_t width, float eps) {                                                       \
        forward<T, 4>(y, x, gamma, beta, rows, width, eps);                                                            \
    }                                                                                                                  \
    KERNEL residual_layer_norm_##suffix(T *sums, T *y, const T *x, const T *branch, const float *bias, const float *scales,\
                                        const float *gamma, const float *beta, uint32_t rows, uint32_t width,          \
                                        uint32_t run, float eps) {                                                     \
        residual<T, 1>(sums, y, x, branch, bias, scales, gamma, beta, rows, width, run, eps);                          \
    }                                                                                                                  \
    KERNEL residual_layer_norm_##suffix##_x4(T *sums, T *y, const T *x, const T *branch, const float *bias,            \
                                             const float *scales, const float *gamma, const float *beta, uint32_t rows,\
                                             uint32_t width, uint32_t run, float eps) {                                \
        residual<T, 4>(sums, y, x, branch, bias, scales, gamma, beta, rows, width, run, eps);                          \
    }                                                                                                                  \
    KERNEL layer_norm_backward_input_##suffix(T *dx, float *kept, const T *x, const float *gamma, const T *grad,       \
                                              const T *around, uint32_t rows, uint32_t width, float eps) {             \
        backward_input<T, 1>(dx, kept, x, gamma, grad, around, rows, width, eps);                                      \
    }                                                                                                                  \
    KERNEL layer_norm_backward_input_##suffix##_x4(T *dx, float *kept, const T *x, const float *gamma, const T *grad,  \
                                                   const T *around, uint32_t rows, uint32_t width, float eps) {        \
        backward_input<T, 4>(dx, kept, x, gamma, grad, around, rows, width, eps);                                      \
    }                                                                                                                  \
    KERNEL layer_norm_backward_parameters_##suffix(float *parts, const float *kept, const T *x, const T *grad,         \
                                                   uint32_t rows, uint32_t width, uint32_t slab) {                     \
        backward_parameters<T>(parts, kept, x, grad, rows, width, slab);                                               \
    }                                                                                                                  \
    REGISTER(layer_norm_##suffix)                                                                                      \
    REGISTER(layer_norm_##suffix##_x4)                                                                                 \
    REGISTER(residual_layer_norm_##suffix)                                                                             \
    REGISTER(residual_layer_norm_##suffix##_x4)                                                                        \
    REGISTER(layer_norm_backward_input_##suffix)                                                                       \
    REGISTER(layer_norm_backward_input_##suffix##_x4)                                                                  \
    REGISTER(layer_norm_backward_parameters_##suffix)

FOR_EACH_TYPE(LAYER_NORM)
