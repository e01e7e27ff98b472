// Max pooling with stride 2 in PyTorch's ceil mode over planes (N, h, w, channels): the
// last window may hang over the border and takes what is there.
//
// Mirrors src/pool.rs; launched by src/cuda/pool.rs.
#include "common.cuh"

KERNEL max_pool(float *out, const float *in, uint32_t images, uint32_t height, uint32_t width, uint32_t channels,
                uint32_t kernel, uint32_t to_height, uint32_t to_width) {
    const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    const size_t pixel = i / channels;
    if (pixel >= size_t(images) * to_height * to_width) return;
    const size_t image = pixel / (size_t(to_height) * to_width);
    const uint32_t left = 2 * uint32_t(pixel % to_width), top = 2 * uint32_t(pixel / to_width % to_height);
    float best = -INFINITY;
    for (uint32_t y = top; y < top + kernel && y < height; y++) {
        for (uint32_t x = left; x < left + kernel && x < width; x++) {
            const float value = in[((image * height + y) * width + x) * channels + i % channels];
            if (value > best || isnan(value)) best = value;
        }
    }
    out[i] = best;
}
REGISTER(max_pool)
