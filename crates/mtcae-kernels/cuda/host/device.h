// As much of CUDA C++ as the kernels use, for the CPU: the same sources compile with
// any C++17 compiler, so that they are tested where there is no GPU. What an
// instruction does follows the PTX ISA; nothing here is meant to be fast.
//
// The threads of a block are fibers on one thread of the system, which has a machine of
// its own; they change at barriers. The lanes of a warp meet in `warp_barrier` to exchange registers.
#pragma once
#include <math.h> // with its names outside std, as CUDA has them
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __thread
#define DYNAMIC_SHARED(name) unsigned char *name = host::shared_memory()

namespace host {

struct Index {
    unsigned x, y, z;
};

extern __thread Index thread, block, threads, blocks;

unsigned char *shared_memory();
void block_barrier();
// Waits for all lanes of the warp.
void warp_barrier();
// A place of 64 bytes for each lane of the warp. Two of them alternate, so that one
// barrier separates an exchange from the next.
unsigned char *exchange(unsigned lane);
void end_exchange();

template <typename V> V shuffle(V value, unsigned source) {
    static_assert(sizeof(V) <= 64, "exchange");
    std::memcpy(exchange(thread.x % 32), &value, sizeof value);
    warp_barrier();
    V result;
    std::memcpy(&result, exchange(source), sizeof result);
    end_exchange();
    return result;
}

void copy_async(void *to, const void *from, unsigned bytes, bool valid);
void copies_end();
void copies_wait(int pending);

// An argument of a kernel. The driver is told addresses of arguments, but neither how
// many there are nor how large they are.
struct Parameter {
    size_t size;
    bool pointer;
    // Of a pointer: whether the kernel writes there, and the size of an element.
    bool written;
    size_t element;
};

template <typename A> Parameter parameter() {
    if constexpr (std::is_pointer_v<A>) {
        using To = std::remove_pointer_t<A>;
        return {sizeof(A), true, !std::is_const_v<To>, sizeof(To)};
    } else {
        return {sizeof(A), false, false, 0};
    }
}

template <typename... A> std::vector<Parameter> parameters(void (*)(A...)) { return {parameter<A>()...}; }

using Trampoline = void (*)(void **arguments);
struct Kernel {
    Trampoline run;
    std::vector<Parameter> parameters;
    // Called once for the whole grid, instead of once for each thread.
    bool whole;
};
bool add_kernel(const char *name, Kernel kernel);
// Nothing where there is no such kernel.
const Kernel *find_kernel(const char *name);
// False when threads wait for each other for ever.
bool run_kernel(const Kernel &kernel, const Index &grid, const Index &block, unsigned shared_bytes, void **arguments);

template <typename... A, size_t... I>
void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
}

template <typename... A> void call(void (*kernel)(A...), void **arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>{});
}

} // namespace host

#define threadIdx ::host::thread
#define blockIdx ::host::block
#define blockDim ::host::threads
#define gridDim ::host::blocks
#define __syncthreads ::host::block_barrier

#define REGISTER_(kernel, text)                                                                                        \
    static const bool registered_##kernel =                                                                           \
        host::add_kernel(text, {[](void **a) { host::call(kernel, a); }, host::parameters(kernel), false});
#define REGISTER_TEXT(kernel, text) REGISTER_(kernel, text)
#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)
#define REGISTER(kernel) REGISTER_TEXT(kernel, TEXT(kernel))

template <typename V> V __shfl_xor_sync(unsigned, V value, int mask) {
    return host::shuffle(value, threadIdx.x % 32 ^ unsigned(mask));
}

// ---- 16-bit floats: rounded to the nearest, ties to even ----

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

inline float __bfloat162float(bf16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

inline bf16 __float2bfloat16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if (x != x) return {0x7fff};
    return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline float __half2float(f16 x) {
    const int exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
    const float sign = x.bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(float(mantissa), -24);
    return sign * std::ldexp(float(mantissa + 1024), exponent - 25);
}

inline f16 __float2half(float x) {
    const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    const float size = std::fabs(x);
    if (x != x) return {0x7fff};
    if (size >= 65520.0f) return {uint16_t(sign | 0x7c00)};
    int exponent = 0;
    std::frexp(size, &exponent); // size < 2^exponent
    const int unit = (exponent < -13 ? -13 : exponent) - 11;
    const int steps = int(std::nearbyint(std::ldexp(size, -unit))); // 0..2048
    if (steps == 2048) return {uint16_t(sign | ((unit + 26) << 10))};
    return {uint16_t(sign | (steps < 1024 ? steps : ((unit + 25) << 10 | (steps - 1024))))};
}

// ---- tensor cores (PTX ISA, "Matrix multiply-accumulate") ----

inline uint32_t round_tf32(float x) {
    // cvt.rna: 10 bits of mantissa, ties away from zero.
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return (bits + 0x1000) & ~0x1fffu;
}

// Lane 8i + r gives the address of row r of matrix i; lane 4g + t receives of each
// matrix the pair 2t, 2t + 1 of row g, or of column g where it is transposed.
inline void ldmatrix_of(uint32_t (&r)[4], const void *row, bool transposed) {
    struct Row {
        uint16_t at[8];
    } mine;
    std::memcpy(&mine, row, sizeof mine);
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    std::memcpy(host::exchange(lane), &mine, sizeof mine);
    host::warp_barrier();
    for (unsigned i = 0; i < 4; i++) {
        uint16_t pair[2];
        for (unsigned e = 0; e < 2; e++) {
            const unsigned from = transposed ? 2 * t + e : g, at = transposed ? g : 2 * t + e;
            std::memcpy(&pair[e], host::exchange(8 * i + from) + 2 * at, 2);
        }
        std::memcpy(&r[i], pair, 4);
    }
    host::end_exchange();
}
inline void ldmatrix(uint32_t (&r)[4], const void *row) { ldmatrix_of(r, row, false); }
inline void ldmatrix_transposed(uint32_t (&r)[4], const void *row) { ldmatrix_of(r, row, true); }

// What a tensor core leaves of an exact sum: f32 rounded toward zero, so that sums which
// pass through many of them drift.
inline float truncated(double sum) {
    const float nearest = float(sum);
    return std::fabs(double(nearest)) > std::fabs(sum) ? std::nextafter(nearest, 0.0f) : nearest;
}

struct Fragments {
    uint32_t a[4], b[2];
};

// c += A B for one lane, which holds of C rows g and g + 8 and columns 2t and 2t + 1:
// `left(f, half, k)` reads A's element k of row `half ? g + 8 : g` of what a lane of that
// row holds, `right(f, k)` B's; `holder(k)` is which of the four lanes of a row or column
// holds k.
template <unsigned K, typename H, typename L, typename R>
void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b, H holder, L left, R right) {
    const unsigned lane = threadIdx.x % 32;
    const Fragments mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    std::memcpy(host::exchange(lane), &mine, sizeof mine);
    host::warp_barrier();
    // The places of the lanes lie side by side.
    const unsigned char *all = host::exchange(0);
    double x[2][K], y[2][K];
    for (unsigned k = 0; k < K; k++) {
        for (unsigned e = 0; e < 2; e++) {
            Fragments of;
            std::memcpy(&of, all + 64 * (lane / 4 * 4 + holder(k)), sizeof of);
            x[e][k] = left(of, e, k);
            std::memcpy(&of, all + 64 * ((2 * (lane % 4) + e) * 4 + holder(k)), sizeof of);
            y[e][k] = right(of, k);
        }
    }
    for (unsigned e = 0; e < 4; e++) {
        double sum = c[e];
        for (unsigned k = 0; k < K; k++) sum += x[e / 2][k] * y[e % 2][k];
        c[e] = truncated(sum);
    }
    host::end_exchange();
}

// m16n8k16: lane 4g + t holds of A the pairs k = 2t, 2t + 1 of rows g and g + 8, then
// those of k + 8; of B the pairs k = 2t, 2t + 1 and k + 8 of column g.
template <typename T> void mma_16(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b, float (*widen)(T)) {
    const auto half_of = [widen](uint32_t pair, unsigned which) {
        const T x = {uint16_t(pair >> 16 * which)};
        return double(widen(x));
    };
    mma<16>(
        c, a, b, [](unsigned k) { return k % 8 / 2; },
        [&](const Fragments &f, unsigned e, unsigned k) { return half_of(f.a[e + 2 * (k / 8)], k % 2); },
        [&](const Fragments &f, unsigned k) { return half_of(f.b[k / 8], k % 2); });
}
inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b) { mma_16(c, a, b, __bfloat162float); }
inline void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b) { mma_16(c, a, b, __half2float); }

// m16n8k8: lane 4g + t holds of A k = t of rows g and g + 8, then k = t + 4 of them; of
// B k = t and t + 4 of column g.
inline void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b) {
    const auto float_of = [](uint32_t bits) {
        float x;
        std::memcpy(&x, &bits, sizeof x);
        return double(x);
    };
    mma<8>(
        c, a, b, [](unsigned k) { return k % 4; },
        [&](const Fragments &f, unsigned e, unsigned k) { return float_of(f.a[e + 2 * (k / 4)]); },
        [&](const Fragments &f, unsigned k) { return float_of(f.b[k / 4]); });
}

// ex2.approx.ftz.f32: as far off as it may be. A result rounded to 22 bits is up to 2⁻²²
// off; subnormal numbers are zero.
inline float exp2_fast(float x) {
    if (std::fpclassify(x) == FP_SUBNORMAL) x = 0;
    const float y = float(std::exp2(double(x)));
    if (!std::isnormal(y)) return std::isfinite(y) ? 0.0f : y;
    uint32_t bits;
    std::memcpy(&bits, &y, sizeof bits);
    bits = (bits + 2) & ~3u;
    float rounded;
    std::memcpy(&rounded, &bits, sizeof rounded);
    return rounded;
}

template <int BYTES> void copy_async(void *to, const void *from, bool valid) {
    static_assert(BYTES == 4 || BYTES == 16, "cp.async");
    host::copy_async(to, from, BYTES, valid);
}
inline void copies_end() { host::copies_end(); }
template <int N> void copies_wait() { host::copies_wait(N); }
