// Clips of 8-bit pixels to the tokens of a VideoMAE encoder, in one pass:
// (B, T, H, W, 3) → (B, N, 3·t·p²), tokens in the order (T/t, H/p, W/p), the numbers
// of one in the order (C, t, h, w). `table` (3, 256) holds what each value of each
// channel becomes, so that the results equal those of mtcae-video to the bit.
//
// Mirrors mtcae-video's tubes.rs; launched by src/cuda/tubes.rs.
#include "common.cuh"

namespace {

template <typename T>
DEVICE void cut(T *out, const uint8_t *frames, const float *table, uint32_t height, uint32_t width, uint32_t tubelet,
                uint32_t patch) {
    // One block cuts one tube: blockIdx is (w′, h′, b·t′).
    const uint32_t length = 3 * tubelet * patch * patch;
    const size_t token = (size_t(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    for (uint32_t i = threadIdx.x; i < length; i += blockDim.x) {
        const uint32_t x = i % patch, y = i / patch % patch;
        const uint32_t t = i / (patch * patch) % tubelet, channel = i / (patch * patch * tubelet);
        const size_t frame = size_t(blockIdx.z) * tubelet + t;
        const size_t row = frame * height + blockIdx.y * patch + y;
        const size_t pixel = row * width + blockIdx.x * patch + x;
        out[token * length + i] = narrow<T>(table[channel * 256 + frames[pixel * 3 + channel]]);
    }
}

} // namespace

#define TUBES(suffix, T)                                                                                               \
    KERNEL tubes_##suffix(T *out, const uint8_t *frames, const float *table, uint32_t height, uint32_t width,          \
                          uint32_t tubelet, uint32_t patch) {                                                          \
        cut<T>(out, frames, table, height, width, tubelet, patch);                                                     \
    }                                                                                                                  \
    REGISTER(tubes_##suffix)

FOR_EACH_TYPE(TUBES)
