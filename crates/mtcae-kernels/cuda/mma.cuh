// Matrix products of 16×16 tiles on tensor cores, for one warp.
//
// A tile lies in shared memory, row-major, with `stride` elements from row to row. A
// warp holds a tile of the left operand (Left), of the right operand (Right) or of the
// result (Sum) in registers, spread over its lanes as the PTX ISA says for
// mma.m16n8k16 (bf16, f16) and mma.m16n8k8 (tf32). Lane 4g + t holds of a Sum the
// rows g and g + 8 in the columns 2t, 2t + 1 of each half of eight columns.
//
// f32 is computed in 3xTF32: each operand is split into two tf32, and three of the
// four products are summed, which leaves an error of about 2⁻²² of each product. A
// tensor core rounds its sums toward zero: through one Sum, hundreds of roundings would
// add up, so the products of each step start from zero and are added in f32. The
// k-index of a tf32 tile is permuted (t ↔ 2t, t + 4 ↔ 2t + 1) alike in both operands,
// so that a Sum is a Left without any exchange between lanes.
#pragma once
#include "common.cuh"

struct Sum {
    float at[2][4] = {}; // half of the columns; (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
};

#ifndef MTCAE_ON_HOST
DEVICE uint32_t shared_address(const void *p) { return uint32_t(__cvta_generic_to_shared(p)); }

DEVICE void ldmatrix(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

DEVICE void ldmatrix_transposed(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

#define MMA_16(name, type)                                                                                             \
    DEVICE void name(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b) {                                       \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                                    \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                 \
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                  \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                              \
    }
MMA_16(mma_bf16, "bf16")
MMA_16(mma_f16, "f16")

DEVICE void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE uint32_t round_tf32(float x) {
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

// 2^x with a relative error of at most 2⁻²² (PTX ISA, ex2.approx.ftz.f32), four times that
// of a correctly rounded result; what would be subnormal is 0. 2^±0 = 1, 2^−∞ = 0.
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Copies 4 or 16 bytes to shared memory behind the thread's back; zeros where not `valid`.
// (Four bytes go through L1, there being no other way.)
template <int BYTES> DEVICE void copy_async(void *to, const void *from, bool valid) {
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                     "r"(valid ? 16 : 0)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
                     "r"(valid ? 4 : 0)
                     : "memory");
    }
}

// Ends a group of copies.
DEVICE void copies_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the last N groups of the thread's copies have arrived.
template <int N> DEVICE void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
#endif

template <typename T> struct Tile;

// bf16 and f16: a tile is one step of k = 16.
template <typename T> struct HalfTile {
    struct Left {
        uint32_t r[4];
    };
    struct Right {
        uint32_t r[4]; // the two registers of each half of the columns
    };

    // Rows of the tile are rows of the operand.
    static DEVICE Left left(const T *tile, int stride) {
        const int lane = threadIdx.x % WARP;
        Left a;
        ldmatrix(a.r, tile + (lane % 16) * stride + lane / 16 * 8);
        return a;
    }

    // Rows of the tile are columns of the operand: (n, k).
    static DEVICE Right right_of_columns(const T *tile, int stride) {
        const int lane = threadIdx.x % WARP;
        Right b;
        ldmatrix(b.r, tile + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8);
        return b;
    }

    // Rows of the tile are rows of the operand: (k, n).
    static DEVICE Right right_of_rows(const T *tile, int stride) {
        const int lane = threadIdx.x % WARP;
        Right b;
        ldmatrix_transposed(b.r, tile + (lane % 16) * stride + lane / 16 * 8);
        return b;
    }

    static DEVICE uint32_t pair(float low, float high) {
        Pack<T, 2> two = {{narrow<T>(low), narrow<T>(high)}};
        uint32_t bits;
        memcpy(&bits, &two, sizeof bits);
        return bits;
    }

    static DEVICE Left left(const Sum &s) {
        return {{pair(s.at[0][0], s.at[0][1]), pair(s.at[0][2], s.at[0][3]), pair(s.at[1][0], s.at[1][1]),
                 pair(s.at[1][2], s.at[1][3])}};
    }
};

template <> struct Tile<bf16> : HalfTile<bf16> {
    static DEVICE void multiply(Sum &c, const Left &a, const Right &b) {
        mma_bf16(c.at[0], a.r, b.r);
        mma_bf16(c.at[1], a.r, b.r + 2);
    }
};

template <> struct Tile<f16> : HalfTile<f16> {
    static DEVICE void multiply(Sum &c, const Left &a, const Right &b) {
        mma_f16(c.at[0], a.r, b.r);
        mma_f16(c.at[1], a.r, b.r + 2);
    }
};

// f32: a tile is two steps of k = 8.
template <> struct Tile<float> {
    struct Left {
        float r[2][4];
    };
    struct Right {
        float r[2][2][2]; // step, half of the columns, register
    };

    static DEVICE Left left(const float *tile, int stride) {
        const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
        Left a;
        for (int step = 0; step < 2; step++) {
            const float *at = tile + g * stride + step * 8 + 2 * t;
            const auto upper = load<2>(at), lower = load<2>(at + 8 * stride);
            a.r[step][0] = upper.at[0];
            a.r[step][1] = lower.at[0];
            a.r[step][2] = upper.at[1];
            a.r[step][3] = lower.at[1];
        }
        return a;
    }

    static DEVICE Right right_of_columns(const float *tile, int stride) {
        const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
        Right b;
        for (int step = 0; step < 2; step++) {
            for (int half = 0; half < 2; half++) {
                const auto two = load<2>(tile + (half * 8 + g) * stride + step * 8 + 2 * t);
                b.r[step][half][0] = two.at[0];
                b.r[step][half][1] = two.at[1];
            }
        }
        return b;
    }

    static DEVICE Right right_of_rows(const float *tile, int stride) {
        const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
        Right b;
        for (int step = 0; step < 2; step++) {
            for (int half = 0; half < 2; half++) {
                for (int i = 0; i < 2; i++) b.r[step][half][i] = tile[(step * 8 + 2 * t + i) * stride + half * 8 + g];
            }
        }
        return b;
    }

    static DEVICE Left left(const Sum &s) {
        Left a;
        for (int step = 0; step < 2; step++) {
            a.r[step][0] = s.at[step][0];
            a.r[step][1] = s.at[step][2];
            a.r[step][2] = s.at[step][1];
            a.r[step][3] = s.at[step][3];
        }
        return a;
    }

    template <int N> static DEVICE void split(uint32_t (&high)[N], uint32_t (&low)[N], const float (&x)[N]) {
        for (int i = 0; i < N; i++) {
            high[i] = round_tf32(x[i]);
            float rounded;
            memcpy(&rounded, &high[i], sizeof rounded);
            low[i] = round_tf32(x[i] - rounded);
        }
    }

    static DEVICE void multiply(Sum &c, const Left &a, const Right &b) {
        for (int step = 0; step < 2; step++) {
            uint32_t a_high[4], a_low[4];
            split(a_high, a_low, a.r[step]);
            for (int half = 0; half < 2; half++) {
                uint32_t b_high[2], b_low[2];
                split(b_high, b_low, b.r[step][half]);
                float part[4] = {};
                mma_tf32(part, a_low, b_high);
                mma_tf32(part, a_high, b_low);
                mma_tf32(part, a_high, b_high);
                for (int i = 0; i < 4; i++) c.at[half][i] += part[i];
            }
        }
    }
};
