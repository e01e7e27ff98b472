// Cross-entropy of logits (B, C) with target distributions q (B, C), which need not
// sum to 1: loss_b = −Σ_c q_c·log softmax(z)_c. One warp works on one clip.
//
// Mirrors src/cross_entropy.rs; launched by src/cuda/cross_entropy.rs.
#include "common.cuh"

namespace {

constexpr int CLIPS = 4; // clips, and so warps, of a block

struct Softmax {
    float max, log_sum;
};

template <typename T> DEVICE Softmax softmax(const T *logits, uint32_t classes) {
    float max = -INFINITY;
    for (uint32_t c = threadIdx.x % WARP; c < classes; c += WARP) max = fmaxf(max, widen(logits[c]));
    max = warp_max(max);
    float sum = 0;
    for (uint32_t c = threadIdx.x % WARP; c < classes; c += WARP) sum += expf(widen(logits[c]) - max);
    return {max, logf(warp_sum(sum))};
}

template <typename T>
DEVICE void forward(float *losses, const T *logits, const float *targets, uint32_t clips, uint32_t classes) {
    const uint32_t clip = blockIdx.x * CLIPS + threadIdx.x / WARP;
    if (clip >= clips) return;
    const size_t at = size_t(clip) * classes;
    const Softmax s = softmax(logits + at, classes);
    float loss = 0;
    for (uint32_t c = threadIdx.x % WARP; c < classes; c += WARP) {
        loss -= targets[at + c] * (widen(logits[at + c]) - s.max - s.log_sum);
    }
    loss = warp_sum(loss);
    if (threadIdx.x % WARP == 0) losses[clip] = loss;
}

// dz_c = grad_b·(softmax(z)_c·Σq − q_c).
template <typename T>
DEVICE void backward(T *dlogits, const T *logits, const float *targets, const float *grad, uint32_t clips,
                     uint32_t classes) {
    const uint32_t clip = blockIdx.x * CLIPS + threadIdx.x / WARP;
    if (clip >= clips) return;
    const size_t at = size_t(clip) * classes;
    const Softmax s = softmax(logits + at, classes);
    float total = 0;
    for (uint32_t c = threadIdx.x % WARP; c < classes; c += WARP) total += targets[at + c];
    total = warp_sum(total);
    for (uint32_t c = threadIdx.x % WARP; c < classes; c += WARP) {
        const float p = expf(widen(logits[at + c]) - s.max - s.log_sum);
        dlogits[at + c] = narrow<T>(grad[clip] * (p * total - targets[at + c]));
    }
}

} // namespace

#define CROSS_ENTROPY(suffix, T)                                                                                       \
    KERNEL cross_entropy_##suffix(float *losses, const T *logits, const float *targets, uint32_t clips,                \
                                  uint32_t classes) {                                                                  \
        forward<T>(losses, logits, targets, clips, classes);                                                           \
    }                                                                                                                  \
    KERNEL cross_entropy_backward_##suffix(T *dlogits, const T *logits, const float *targets, const float *grad,       \
                                           uint32_t clips, uint32_t classes) {                                         \
        backward<T>(dlogits, logits, targets, grad, clips, classes);                                                   \
    }                                                                                                                  \
    REGISTER(cross_entropy_##suffix)                                                                                   \
    REGISTER(cross_entropy_backward_##suffix)

FOR_EACH_TYPE(CROSS_ENTROPY)
