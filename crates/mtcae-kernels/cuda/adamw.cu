// AdamW, moving averages and sums of squares over all parameters in one launch each.
//
// A table says where each parameter lies; each block finds its part of one of them.
// The arithmetic is that of src/adamw.rs, in its order.
//
// Mirrors src/adamw.rs; launched by src/cuda/adamw.rs.
#include "common.cuh"

namespace {

// One parameter of the table; src/cuda/adamw.rs has the same layout.
struct Entry {
    float *parameter;
    const float *gradient;
    float *m, *v;
    uint64_t length;
    uint32_t first_block; // the block that works on its first part
    float keep;           // 1 − lr·λ
    float rate;           // lr/(1 − β₁ᵗ)
    uint32_t padding;
};

constexpr uint64_t PART = 4096; // elements of a block

struct Part {
    const Entry *entry;
    uint64_t first, end;
};

// The part of block `blockIdx.x`, by binary search for the last entry that starts at
// or before it.
DEVICE Part part(const Entry *entries, uint32_t count) {
    uint32_t low = 0, high = count;
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (entries[middle].first_block <= blockIdx.x) low = middle;
        else high = middle;
    }
    const Entry *entry = entries + low;
    const uint64_t first = uint64_t(blockIdx.x - entry->first_block) * PART;
    const uint64_t end = first + PART < entry->length ? first + PART : entry->length;
    return {entry, first, end};
}

} // namespace

KERNEL adamw(const Entry *entries, uint32_t count, float beta2, float rest1, float rest2, float scale, float root,
             float eps) {
    const Part p = part(entries, count);
    const float keep = p.entry->keep, rate = p.entry->rate;
    for (uint64_t i = p.first + threadIdx.x; i < p.end; i += blockDim.x) {
        const float g = p.entry->gradient[i] * scale;
        float m = p.entry->m[i], v = p.entry->v[i];
        m += rest1 * (g - m);
        v = beta2 * v + rest2 * g * g;
        p.entry->m[i] = m;
        p.entry->v[i] = v;
        p.entry->parameter[i] = p.entry->parameter[i] * keep - rate * m / (sqrtf(v) / root + eps);
    }
}
REGISTER(adamw)

// parameter ← keep·parameter + rate·gradient.
KERNEL blend(const Entry *entries, uint32_t count) {
    const Part p = part(entries, count);
    for (uint64_t i = p.first + threadIdx.x; i < p.end; i += blockDim.x) {
        p.entry->parameter[i] = p.entry->keep * p.entry->parameter[i] + p.entry->rate * p.entry->gradient[i];
    }
}
REGISTER(blend)

// Σ gradient² of each block's part, in f64. One warp a block, lanes added in order.
KERNEL sums_of_squares(double *sums, const Entry *entries, uint32_t count) {
    const Part p = part(entries, count);
    double sum = 0;
    for (uint64_t i = p.first + threadIdx.x; i < p.end; i += WARP) {
        const double g = p.entry->gradient[i];
        sum += g * g;
    }
    for (int step = WARP / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
REGISTER(sums_of_squares)
