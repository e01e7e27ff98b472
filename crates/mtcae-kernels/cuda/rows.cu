// Residual sums with the bias of the linear layer before, and the gradient of a bias:
// sums over rows, in an order that does not depend on timing.
//
// Mirrors src/rows.rs; launched by src/cuda/rows.rs.
#include "common.cuh"

namespace {

// The sums of the columns of each slab of rows: x (rows, width) → (slabs, width), in
// f32. A block works on 32 columns of one slab; its warps take turns at the rows.
template <typename T> DEVICE void column_sums(float *sums, const T *x, uint32_t rows, uint32_t width, uint32_t slab) {
    constexpr int WARPS = 8;
    __shared__ float partial[WARPS][WARP];
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t column = blockIdx.x * WARP + lane;
    const uint32_t first = blockIdx.y * slab, end = first + slab < rows ? first + slab : rows;
    float sum = 0;
    if (column < width) {
        for (uint32_t row = first + warp; row < end; row += WARPS) sum += widen(x[size_t(row) * width + column]);
    }
    partial[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && column < width) {
        float total = 0;
        for (int i = 0; i < WARPS; i++) total += partial[i][lane];
        sums[size_t(blockIdx.y) * width + column] = total;
    }
}

// A bias of which the columns before `end` lie in `first`, those from `start` on in
// `last`, and the others are 0.
struct Bias {
    const float *first, *last;
    uint32_t end, start;

    template <int W> DEVICE Pack<float, W> at(uint32_t column) const {
        if (column < end) return load<W>(first + column);
        if (column >= start) return load<W>(last + (column - start));
        return {};
    }
};

// out = base + s·(x + bias), with one s for each run of rows; `base` and `scales` may be
// null, for 0 and 1. A thread owns W columns, reads their bias once and goes down the rows.
template <typename T, int W>
DEVICE void residual(T *out, const T *base, const T *x, const Bias &bias, const float *scales, uint32_t rows,
                     uint32_t width, uint32_t run) {
    const uint32_t column = (blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (column >= width) return;
    const auto b = bias.at<W>(column);
    for (uint32_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const size_t at = size_t(row) * width + column;
        const float s = scales ? scales[row / run] : 1.0f;
        auto pack = load<W>(x + at);
        Pack<T, W> before = {};
        if (base) before = load<W>(base + at);
        for (int e = 0; e < W; e++) {
            pack.at[e] = narrow<T>((base ? widen(before.at[e]) : 0.0f) + s * (widen(pack.at[e]) + b.at[e]));
        }
        store(out + at, pack);
    }
}

} // namespace

#define ROWS(suffix, T)                                                                                                \
    KERNEL column_sums_##suffix(float *sums, const T *x, uint32_t rows, uint32_t width, uint32_t slab) {               \
        column_sums<T>(sums, x, rows, width, slab);                                                                    \
    }                                                                                                                  \
    KERNEL residual_##suffix(T *out, const T *base, const T *x, const float *first, const float *last,                 \
                             const float *scales, uint32_t end, uint32_t start, uint32_t rows, uint32_t width,         \
                             uint32_t run) {                                                                           \
        residual<T, 1>(out, base, x, {first, last, end, start}, scales, rows, width, run);                             \
    }                                                                                                                  \
    KERNEL residual_##suffix##_x4(T *out, const T *base, const T *x, const float *first, const float *last,            \
                                  const float *scales, uint32_t end, uint32_t start, uint32_t rows, uint32_t width,    \
                                  uint32_t run) {                                                                      \
        residual<T, 4>(out, base, x, {first, last, end, start}, scales, rows, width, run);                             \
    }                                                                                                                  \
    REGISTER(column_sums_##suffix)                                                                                     \
    REGISTER(residual_##suffix)                                                                                        \
    REGISTER(residual_##suffix##_x4)

FOR_EACH_TYPE(ROWS)
