// What all kernels share: the three element types, packs of elements that are read
// in one instruction, and sums over a warp.
//
// The same sources compile for a GPU by nvcc and for the CPU by any C++17 compiler
// (MTCAE_ON_HOST, see host/device.h), where the tests run them without a GPU.
#pragma once

#ifdef MTCAE_ON_HOST
#include "host/device.h"
#else
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
using bf16 = __nv_bfloat16;
using f16 = __half;
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define REGISTER(name)
#endif

#define KERNEL extern "C" __global__ void
#define DEVICE __device__ __forceinline__

constexpr int WARP = 32;

DEVICE float widen(float x) { return x; }
DEVICE float widen(bf16 x) { return __bfloat162float(x); }
DEVICE float widen(f16 x) { return __half2float(x); }

template <typename T> DEVICE T narrow(float x);
template <> DEVICE float narrow<float>(float x) { return x; }
template <> DEVICE bf16 narrow<bf16>(float x) { return __float2bfloat16(x); }
template <> DEVICE f16 narrow<f16>(float x) { return __float2half(x); }

// W elements that lie side by side, aligned to their size.
template <typename T, int W> struct alignas(W * sizeof(T)) Pack {
    T at[W];
};

template <int W, typename T> DEVICE Pack<T, W> load(const T *from) {
    return *reinterpret_cast<const Pack<T, W> *>(from);
}

template <int W, typename T> DEVICE void store(T *to, const Pack<T, W> &pack) {
    *reinterpret_cast<Pack<T, W> *>(to) = pack;
}

// The sum over the lanes of a warp, the same in each of them. The order of the
// additions is fixed, so that results repeat to the bit.
DEVICE float warp_sum(float x) {
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

DEVICE float warp_max(float x) {
    for (int step = WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

// Defines a kernel for each element type: `name_f32`, `name_bf16`, `name_f16`.
#define FOR_EACH_TYPE(define) define(f32, float) define(bf16, bf16) define(f16, f16)
