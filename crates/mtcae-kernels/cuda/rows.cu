// A bias added to rows, and its gradient: sums over rows, in an order that does not
// depend on timing.
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

// y = x + bias. A thread owns W columns, reads their bias once and goes down the rows.
template <typename T, int W> DEVICE void add_bias(T *y, const T *x, const T *bias, uint32_t rows, uint32_t width) {
    const uint32_t column = (blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (column >= width) return;
    const auto b = load<W>(bias + column);
    for (uint32_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const size_t at = size_t(row) * width + column;
        auto pack = load<W>(x + at);
        for (int e = 0; e < W; e++) pack.at[e] = narrow<T>(widen(pack.at[e]) + widen(b.at[e]));
        store(y + at, pack);
    }
}

} // namespace

#define ROWS(suffix, T)                                                                                                \
    KERNEL column_sums_##suffix(float *sums, const T *x, uint32_t rows, uint32_t width, uint32_t slab) {               \
        column_sums<T>(sums, x, rows, width, slab);                                                                    \
    }                                                                                                                  \
    KERNEL add_bias_##suffix(T *y, const T *x, const T *bias, uint32_t rows, uint32_t width) {                         \
        add_bias<T, 1>(y, x, bias, rows, width);                                                                       \
    }                                                                                                                  \
    KERNEL add_bias_##suffix##_x4(T *y, const T *x, const T *bias, uint32_t rows, uint32_t width) {                    \
        add_bias<T, 4>(y, x, bias, rows, width);                                                                       \
    }                                                                                                                  \
    REGISTER(column_sums_##suffix)                                                                                     \
    REGISTER(add_bias_##suffix)                                                                                        \
    REGISTER(add_bias_##suffix##_x4)

FOR_EACH_TYPE(ROWS)
