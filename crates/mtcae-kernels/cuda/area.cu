// Area resampling of rectangles of 8-bit RGB pictures (T, H, W, 3), all to one size, as
// (value − 127.5)/128. Sums are whole numbers and divided as on the CPU, so that results
// are the CPU's to the bit where those of its sums are exact (windows of 65,793 pixels).
//
// Mirrors src/area.rs; launched by src/cuda/area.rs.
#include "common.cuh"

namespace {

struct Window {
    uint32_t start, end;
};

// The window of output i when `from` pixels become `to`.
DEVICE Window window(size_t i, size_t from, size_t to) {
    return {uint32_t(i * from / to), uint32_t(((i + 1) * from + to - 1) / to)};
}

} // namespace

// Each row of `crops` is picture, x, y, width, height. One thread an output pixel;
// blockIdx.y is the crop.
KERNEL area_resample(float *out, const uint8_t *pictures, const uint32_t *crops, uint32_t height, uint32_t width,
                     uint32_t to_height, uint32_t to_width) {
    const uint32_t pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= to_height * to_width) return;
    const uint32_t *crop = crops + 5 * size_t(blockIdx.y);
    const Window columns = window(pixel % to_width, crop[3], to_width);
    const Window rows = window(pixel / to_width, crop[4], to_height);
    uint32_t sums[3] = {0, 0, 0};
    for (uint32_t y = rows.start; y < rows.end; y++) {
        const size_t row = (size_t(crop[0]) * height + crop[2] + y) * width + crop[1];
        const uint8_t *at = pictures + (row + columns.start) * 3;
        for (uint32_t x = columns.start; x < columns.end; x++, at += 3) {
            for (int c = 0; c < 3; c++) sums[c] += at[c];
        }
    }
    const float high = float(rows.end - rows.start), wide = float(columns.end - columns.start);
    float *to = out + (size_t(blockIdx.y) * to_height * to_width + pixel) * 3;
    for (int c = 0; c < 3; c++) to[c] = (float(sums[c]) / high / wide - 127.5f) * 0.0078125f;
}
REGISTER(area_resample)
