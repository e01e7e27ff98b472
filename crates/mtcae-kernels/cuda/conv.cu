// Convolution with few channels, without padding, stride 1, fused with bias and PReLU:
// (N, h, w, stride) → (N, h − kh + 1, w − kw + 1, outputs). A dense layer is the same
// with a kernel of 1×1 and one pixel a sample.
//
// It is the product of (pixels × taps) and (taps × channels) whose left side is gathered
// as it is needed. Tensor cores would round: what these networks find must not depend on
// where they run. Every output is summed with fused multiply-adds in the CPU's order,
// bias first, then (ky, kx, channel), so that the results are the CPU's to the bit where
// that has fused multiply-adds too.
//
// Mirrors src/conv.rs; launched by src/cuda/conv.rs.
#include "common.cuh"

namespace {

// A block computes PIXELS × CHANNELS outputs, a thread 4 × 4; TAPS of both sides are in
// shared memory at a time.
constexpr uint32_t PIXELS = 64, TAPS = 16;

struct Shape {
    uint32_t images, height, width, stride, kernel_height, kernel_width, inputs, outputs;
};

template <uint32_t CHANNELS>
DEVICE void convolve(float *out, const float *in, const float *parameters, const Shape s) {
    constexpr uint32_t ACROSS = CHANNELS / 4, THREADS = PIXELS / 4 * ACROSS;
    // Where each pixel's taps begin.
    __shared__ size_t corners[PIXELS];
    // A row is one tap. One pack more, so that a warp writes into different banks.
    __shared__ Pack<float, 4> left[TAPS][PIXELS / 4 + 1];
    __shared__ Pack<float, 4> right[TAPS][ACROSS];

    const uint32_t to_height = s.height - s.kernel_height + 1, to_width = s.width - s.kernel_width + 1;
    const size_t pixels = size_t(s.images) * to_height * to_width, first = size_t(blockIdx.x) * PIXELS;
    const uint32_t taps = s.kernel_height * s.kernel_width * s.inputs, first_channel = blockIdx.y * CHANNELS;
    for (uint32_t i = threadIdx.x; i < PIXELS; i += THREADS) {
        // Those beyond the last are computed as the last is, and not written.
        const size_t pixel = first + i < pixels ? first + i : pixels - 1;
        const size_t row = pixel / to_width / to_height * s.height + pixel / to_width % to_height;
        corners[i] = (row * s.width + pixel % to_width) * s.stride;
    }
    __syncthreads();

    const uint32_t down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
    const float *weights = parameters + first_channel;
    const float *bias = weights + size_t(taps) * s.outputs, *slope = bias + s.outputs;
    float sums[4][4];
    for (uint32_t p = 0; p < 4; p++) {
        for (uint32_t c = 0; c < 4; c++) sums[p][c] = bias[4 * across + c];
    }
    for (uint32_t begin = 0; begin < taps; begin += TAPS) {
        // Each thread gathers one tap of several pixels: neighbours in a warp read
        // neighbours in memory.
        const uint32_t tap = begin + threadIdx.x % TAPS, at = tap / s.inputs;
        const size_t offset =
            (size_t(at / s.kernel_width) * s.width + at % s.kernel_width) * s.stride + tap % s.inputs;
        for (uint32_t p = threadIdx.x / TAPS; p < PIXELS; p += THREADS / TAPS) {
            left[threadIdx.x % TAPS][p / 4].at[p % 4] = tap < taps ? in[corners[p] + offset] : 0.0f;
        }
        for (uint32_t i = threadIdx.x; i < TAPS * CHANNELS; i += THREADS) {
            const uint32_t t = i / CHANNELS, c = i % CHANNELS;
            right[t][c / 4].at[c % 4] = begin + t < taps ? weights[size_t(begin + t) * s.outputs + c] : 0.0f;
        }
        __syncthreads();
        // Taps beyond the last add 0·0.
        for (uint32_t t = 0; t < TAPS; t++) {
            const Pack<float, 4> a = left[t][down], b = right[t][across];
            for (uint32_t p = 0; p < 4; p++) {
                for (uint32_t c = 0; c < 4; c++) sums[p][c] = fmaf(a.at[p], b.at[c], sums[p][c]);
            }
        }
        __syncthreads();
    }
    for (uint32_t p = 0; p < 4; p++) {
        const size_t pixel = first + 4 * down + p;
        if (pixel >= pixels) return;
        Pack<float, 4> y;
        for (uint32_t c = 0; c < 4; c++) {
            const float sum = sums[p][c];
            y.at[c] = sum > 0.0f ? sum : slope[4 * across + c] * sum;
        }
        store<4>(out + pixel * s.outputs + first_channel + 4 * across, y);
    }
}

} // namespace

// `parameters` (taps + 2, outputs): weights by (ky, kx, channel), then bias, then PReLU's
// slopes. `outputs` is a multiple of the channels of a block; blockIdx.y says which.
#define CONV(channels)                                                                                                 \
    KERNEL conv_##channels(float *out, const float *in, const float *parameters, uint32_t images, uint32_t height,     \
                           uint32_t width, uint32_t stride, uint32_t kernel_height, uint32_t kernel_width,             \
                           uint32_t inputs, uint32_t outputs) {                                                        \
        convolve<channels>(out, in, parameters,                                                                        \
                           {images, height, width, stride, kernel_height, kernel_width, inputs, outputs});             \
    }                                                                                                                  \
    REGISTER(conv_##channels)

CONV(16)
CONV(32)
CONV(64)
