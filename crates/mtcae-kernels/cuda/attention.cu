// softmax(Q·Kᵀ·scale)·V of each head and its backward, on tensor cores, for N×N self
// and N×M cross attention. The N×M matrix never leaves the registers.
//
// The forward follows FlashAttention-2 (Dao, 2023, arXiv 2307.08691): a block owns 16
// queries a warp, goes along the keys and keeps a running maximum and sum. K of the
// next step is fetched while the probabilities meet V, and V of the next while Q
// meets K. For the backward it leaves log₂ Σ exp of each row.
//
// The backward computes the probabilities again, twice: one kernel owns keys and goes
// along the queries (dK, dV), one owns queries and goes along the keys (dQ). That is
// 7 products where 5 would do, and in exchange no two blocks add to one number: no
// atomics, and results that repeat to the bit.
//
// Compiled once for each element type (TYPE) and padded head dimension (HEAD): the
// driver then compiles only what a model uses. Any head_dim up to HEAD goes; the
// channels above it are zeros in shared memory.
//
// Mirrors src/attention.rs; launched by src/cuda/attention.rs, which has the same
// tile sizes.
#include "mma.cuh"

#if !defined(TYPE) || !defined(HEAD)
#error "define TYPE (float, bf16, f16), SUFFIX (f32, bf16, f16) and HEAD"
#endif

namespace {

using T = TYPE;

constexpr int ELEMENT = int(sizeof(T));
// Rows of a tile are padded so that neither ldmatrix nor pairs of floats meet in a bank.
constexpr int STRIDE = HEAD + 8;
constexpr int STEPS = HEAD / 16; // tiles of 16 channels
constexpr int ROW = HEAD * ELEMENT; // bytes of a token

// Tile sizes, so that every kernel stays within 99 KiB of shared memory, which all
// GPUs from Ampere on have, and within the registers.
//
// The forward: queries of a block, keys of a step.
constexpr int BLOCK = 64, STEP = ROW > 704 ? 16 : ROW > 352 ? 32 : 64;
// dQ: likewise.
constexpr int QUERY_BLOCK = ROW > 512 ? 32 : 64, QUERY_STEP = ROW > 352 ? 16 : 32;
// dK and dV: keys of a block, queries of a step.
constexpr int KEY_BLOCK = ROW > 704 ? 16 : ROW > 352 ? 32 : 64, KEY_STEP = 16;
// Channels of dK and dV that a block works on.
constexpr int CHANNELS = ELEMENT == 4 ? (HEAD > 96 ? 96 : HEAD) : (HEAD > 176 ? 128 : HEAD);

// The probability of a logit x·scale is 2^(x·c − m·c), c = scale·log₂ e, relative to a
// row's largest x, m: one multiplication with addition and one ex2 for each element, and
// the maximum is one of products as they are. That takes a scale above zero: below it m
// would be the smallest logit, and at zero x·c of a masked key, −∞·0, no number.
// src/cuda/attention.rs refuses both.
constexpr float LOG2_E = 1.4426950408889634f;

struct Operand {
    const T *data; // the head's first channel of the problem's first token
    uint32_t stride, tokens;
};

DEVICE Operand operand(const T *data, uint32_t tokens, uint32_t stride, uint32_t head_dim) {
    return {data + size_t(blockIdx.z) * tokens * stride + blockIdx.y * head_dim, stride, tokens};
}

// Fetches `ROWS` tokens from `first` on into a tile; zeros past the last token and the
// last channel. With `aligned`, rows are whole numbers of 16 bytes at multiples of 16.
template <int ROWS> DEVICE void fetch(T *tile, const Operand &o, uint32_t first, uint32_t head_dim, bool aligned) {
    constexpr int CHUNK = 16 / ELEMENT, CHUNKS = HEAD / CHUNK;
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += blockDim.x) {
        const uint32_t row = i / CHUNKS, channel = i % CHUNKS * CHUNK, token = first + row;
        T *to = tile + row * STRIDE + channel;
        if (aligned) {
            const bool valid = token < o.tokens && channel < head_dim;
            copy_async(to, valid ? o.data + size_t(token) * o.stride + channel : o.data, valid);
        } else {
            for (int e = 0; e < CHUNK; e++) {
                const bool valid = token < o.tokens && channel + e < head_dim;
                to[e] = valid ? o.data[size_t(token) * o.stride + channel + e] : narrow<T>(0.0f);
            }
        }
    }
}

// Calls `body` with each element of a row of 16-column tiles: number, column, and
// whether it is of the lower row (g + 8).
template <int TILES, typename F> DEVICE void for_each(Sum (&s)[TILES], const F &body) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < TILES; n++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int e = 0; e < 4; e++) body(s[n].at[half][e], n * 16 + half * 8 + 2 * t + e % 2, e / 2);
        }
    }
}

// rows (16, HEAD) times columns (16·TILES, HEAD) transposed, added to s.
template <int TILES> DEVICE void multiply_transposed(Sum (&s)[TILES], const T *rows, const T *columns) {
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
        const auto a = Tile<T>::left(rows + k * 16, STRIDE);
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            Tile<T>::multiply(s[n], a, Tile<T>::right_of_columns(columns + n * 16 * STRIDE + k * 16, STRIDE));
        }
    }
}

// p (16, 16·TILES) times rows (16·TILES, channels of `out`), added to out.
template <int TILES, int OUT> DEVICE void multiply(Sum (&out)[OUT], const Sum (&p)[TILES], const T *rows, int tiles) {
#pragma unroll
    for (int n = 0; n < TILES; n++) {
        const auto a = Tile<T>::left(p[n]);
#pragma unroll
        for (int d = 0; d < OUT; d++) {
            if (d < tiles) Tile<T>::multiply(out[d], a, Tile<T>::right_of_rows(rows + n * 16 * STRIDE + d * 16, STRIDE));
        }
    }
}

// Writes rows (16, channels from `channel` on) times `factor`, of tokens from `first` on.
template <int TILES>
DEVICE void write(T *to, uint32_t stride, uint32_t first, uint32_t tokens, uint32_t channel, uint32_t head_dim,
                  Sum (&s)[TILES], const float (&factor)[2]) {
    const uint32_t g = threadIdx.x % WARP / 4;
    for_each(s, [&](float value, uint32_t column, int lower) {
        const uint32_t token = first + g + 8 * lower, at = channel + column;
        if (token < tokens && at < head_dim) to[size_t(token) * stride + at] = narrow<T>(value * factor[lower]);
    });
}

} // namespace

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define NAME(kernel) JOIN(kernel, SUFFIX, HEAD)

// out (B, N, H·d) and, for each (b, h, n), log₂ of the row's sum of exponentials.
// Grid: blocks of queries, heads, problems.
KERNEL NAME(attention)(T *out, float *log_sums, const T *q, const T *k, const T *v, uint32_t heads, uint32_t queries,
                       uint32_t keys, uint32_t head_dim, uint32_t q_stride, uint32_t kv_stride, float scale,
                       uint32_t aligned) {
    DYNAMIC_SHARED(shared);
    T *q_tile = reinterpret_cast<T *>(shared);
    T *k_tile = q_tile + BLOCK * STRIDE, *v_tile = k_tile + STEP * STRIDE;
    const float to_log2 = scale * LOG2_E;
    const Operand of_q = operand(q, queries, q_stride, head_dim);
    const Operand of_k = operand(k, keys, kv_stride, head_dim), of_v = operand(v, keys, kv_stride, head_dim);
    const uint32_t first = blockIdx.x * BLOCK, warp = threadIdx.x / WARP, t = threadIdx.x % 4;

    fetch<BLOCK>(q_tile, of_q, first, head_dim, aligned);
    fetch<STEP>(k_tile, of_k, 0, head_dim, aligned);
    copies_end();
    fetch<STEP>(v_tile, of_v, 0, head_dim, aligned);
    copies_end();

    Sum o[STEPS];
    // Of each of the lane's two rows: the largest x, the exponent that its probabilities
    // are relative to, their sum.
    float max[2] = {-INFINITY, -INFINITY}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    for (uint32_t key = 0; key < keys; key += STEP) {
        copies_wait<1>();
        __syncthreads();
        Sum s[STEP / 16];
        multiply_transposed(s, q_tile + warp * 16 * STRIDE, k_tile);
        __syncthreads();
        const uint32_t next = key + STEP;
        if (next < keys) fetch<STEP>(k_tile, of_k, next, head_dim, aligned);
        copies_end();

        if (next > keys) {
            for_each(s, [&](float &x, uint32_t column, int) {
                if (key + column >= keys) x = -INFINITY;
            });
        }
        for_each(s, [&](float x, uint32_t, int lower) { max[lower] = fmaxf(max[lower], x); });
        float shrink[2];
        for (int i = 0; i < 2; i++) {
            // The four lanes of a row hold different columns.
            for (int lane = 1; lane < 4; lane *= 2) {
                max[i] = fmaxf(max[i], __shfl_xor_sync(0xffffffffu, max[i], lane));
            }
            // What is already summed is relative to `top`, rounded as it is: so is what
            // it becomes, and 2^0 = 1 where the maximum stays.
            const float higher = max[i] * to_log2;
            shrink[i] = exp2_fast(top[i] - higher);
            top[i] = higher;
            sum[i] *= shrink[i];
        }
        for_each(s, [&](float &x, uint32_t, int lower) {
            x = exp2_fast(fmaf(x, to_log2, -top[lower]));
            sum[lower] += x;
        });
        for_each(o, [&](float &x, uint32_t, int lower) { x *= shrink[lower]; });

        copies_wait<1>();
        __syncthreads();
        multiply(o, s, v_tile, STEPS);
        __syncthreads();
        if (next < keys) fetch<STEP>(v_tile, of_v, next, head_dim, aligned);
        copies_end();
    }

    float inverse[2];
    for (int i = 0; i < 2; i++) {
        for (int lane = 1; lane < 4; lane *= 2) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], lane);
        inverse[i] = 1.0f / sum[i];
        const uint32_t token = first + warp * 16 + threadIdx.x % WARP / 4 + 8 * i;
        if (t == 0 && token < queries) {
            log_sums[(size_t(blockIdx.z) * heads + blockIdx.y) * queries + token] = top[i] + log2f(sum[i]);
        }
    }
    T *to = out + size_t(blockIdx.z) * queries * heads * head_dim + blockIdx.y * head_dim;
    write(to, heads * head_dim, first + warp * 16, queries, 0, head_dim, o, inverse);
}
REGISTER(NAME(attention))

// delta (B, H, N) = Σ_d grad·out, which the softmax's backward subtracts. One warp a
// row; grid as above with four rows a block.
KERNEL NAME(attention_delta)(float *delta, const T *out, const T *grad, uint32_t heads, uint32_t queries,
                             uint32_t head_dim) {
    const uint32_t token = blockIdx.x * 4 + threadIdx.x / WARP;
    if (token >= queries) return;
    const size_t at = ((size_t(blockIdx.z) * queries + token) * heads + blockIdx.y) * head_dim;
    float sum = 0;
    for (uint32_t i = threadIdx.x % WARP; i < head_dim; i += WARP) sum += widen(out[at + i]) * widen(grad[at + i]);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) delta[(size_t(blockIdx.z) * heads + blockIdx.y) * queries + token] = sum;
}
REGISTER(NAME(attention_delta))

// dK and dV (B, M, ·). A block owns keys and, where the sums of all channels do not
// fit into the registers, CHANNELS of them; it goes along the queries. Everything is
// transposed: S^T = K·Qᵀ, so that P^T and dS^T are left operands as they are.
// Grid: blocks of keys × parts of the channels, heads, problems.
KERNEL NAME(attention_backward_kv)(T *dk, T *dv, const T *q, const T *k, const T *v, const T *grad,
                                   const float *log_sums, const float *delta, uint32_t heads, uint32_t queries,
                                   uint32_t keys, uint32_t head_dim, uint32_t q_stride, uint32_t kv_stride,
                                   uint32_t dkv_stride, float scale, uint32_t aligned) {
    constexpr int PARTS = (HEAD + CHANNELS - 1) / CHANNELS;
    DYNAMIC_SHARED(shared);
    T *k_tile = reinterpret_cast<T *>(shared), *v_tile = k_tile + KEY_BLOCK * STRIDE;
    T *q_tile = v_tile + KEY_BLOCK * STRIDE, *grad_tile = q_tile + KEY_STEP * STRIDE;
    __shared__ float row_log_sum[KEY_STEP], row_delta[KEY_STEP];
    const Operand of_q = operand(q, queries, q_stride, head_dim), of_k = operand(k, keys, kv_stride, head_dim);
    const Operand of_v = operand(v, keys, kv_stride, head_dim);
    const Operand of_grad = operand(grad, queries, heads * head_dim, head_dim);
    const uint32_t first = blockIdx.x / PARTS * KEY_BLOCK, channel = blockIdx.x % PARTS * CHANNELS;
    const uint32_t warp = threadIdx.x / WARP;
    const size_t rows = (size_t(blockIdx.z) * heads + blockIdx.y) * queries;
    const float to_log2 = scale * LOG2_E;
    const int tiles = (HEAD - int(channel)) / 16;

    fetch<KEY_BLOCK>(k_tile, of_k, first, head_dim, aligned);
    fetch<KEY_BLOCK>(v_tile, of_v, first, head_dim, aligned);
    Sum sum_k[CHANNELS / 16], sum_v[CHANNELS / 16];
    for (uint32_t query = 0; query < queries; query += KEY_STEP) {
        fetch<KEY_STEP>(q_tile, of_q, query, head_dim, aligned);
        fetch<KEY_STEP>(grad_tile, of_grad, query, head_dim, aligned);
        copies_end();
        if (threadIdx.x < KEY_STEP) {
            // A query past the last has an infinite sum, and so no probabilities.
            const bool valid = query + threadIdx.x < queries;
            row_log_sum[threadIdx.x] = valid ? log_sums[rows + query + threadIdx.x] : INFINITY;
            row_delta[threadIdx.x] = valid ? delta[rows + query + threadIdx.x] : 0.0f;
        }
        copies_wait<0>();
        __syncthreads();
        Sum p[1], ds[1];
        multiply_transposed(p, k_tile + warp * 16 * STRIDE, q_tile);
        multiply_transposed(ds, v_tile + warp * 16 * STRIDE, grad_tile);
        for_each(p, [&](float &x, uint32_t column, int) { x = exp2_fast(fmaf(x, to_log2, -row_log_sum[column])); });
        int element = 0;
        for_each(ds, [&](float &x, uint32_t column, int) {
            x = p[0].at[element / 4][element % 4] * (x - row_delta[column]);
            element++;
        });
        multiply(sum_v, p, grad_tile + channel, tiles);
        multiply(sum_k, ds, q_tile + channel, tiles);
        __syncthreads();
    }
    const size_t at = size_t(blockIdx.z) * keys * dkv_stride + blockIdx.y * head_dim;
    const float one[2] = {1.0f, 1.0f}, scales[2] = {scale, scale};
    write(dv + at, dkv_stride, first + warp * 16, keys, channel, head_dim, sum_v, one);
    write(dk + at, dkv_stride, first + warp * 16, keys, channel, head_dim, sum_k, scales);
}
REGISTER(NAME(attention_backward_kv))

// dQ (B, N, ·). A block owns queries and goes along the keys.
// Grid: blocks of queries, heads, problems.
KERNEL NAME(attention_backward_q)(T *dq, const T *q, const T *k, const T *v, const T *grad, const float *log_sums,
                                  const float *delta, uint32_t heads, uint32_t queries, uint32_t keys,
                                  uint32_t head_dim, uint32_t q_stride, uint32_t kv_stride, uint32_t dq_stride,
                                  float scale, uint32_t aligned) {
    DYNAMIC_SHARED(shared);
    T *q_tile = reinterpret_cast<T *>(shared), *grad_tile = q_tile + QUERY_BLOCK * STRIDE;
    T *k_tile = grad_tile + QUERY_BLOCK * STRIDE, *v_tile = k_tile + QUERY_STEP * STRIDE;
    const Operand of_q = operand(q, queries, q_stride, head_dim), of_k = operand(k, keys, kv_stride, head_dim);
    const Operand of_v = operand(v, keys, kv_stride, head_dim);
    const Operand of_grad = operand(grad, queries, heads * head_dim, head_dim);
    const uint32_t first = blockIdx.x * QUERY_BLOCK, warp = threadIdx.x / WARP;
    const size_t rows = (size_t(blockIdx.z) * heads + blockIdx.y) * queries;
    const float to_log2 = scale * LOG2_E;

    fetch<QUERY_BLOCK>(q_tile, of_q, first, head_dim, aligned);
    fetch<QUERY_BLOCK>(grad_tile, of_grad, first, head_dim, aligned);
    float row_log_sum[2], row_delta[2];
    for (int i = 0; i < 2; i++) {
        const uint32_t token = first + warp * 16 + threadIdx.x % WARP / 4 + 8 * i;
        row_log_sum[i] = token < queries ? log_sums[rows + token] : INFINITY;
        row_delta[i] = token < queries ? delta[rows + token] : 0.0f;
    }
    Sum sum[STEPS];
    for (uint32_t key = 0; key < keys; key += QUERY_STEP) {
        fetch<QUERY_STEP>(k_tile, of_k, key, head_dim, aligned);
        fetch<QUERY_STEP>(v_tile, of_v, key, head_dim, aligned);
        copies_end();
        copies_wait<0>();
        __syncthreads();
        constexpr int TILES = QUERY_STEP / 16;
        Sum p[TILES], ds[TILES];
        multiply_transposed(p, q_tile + warp * 16 * STRIDE, k_tile);
        multiply_transposed(ds, grad_tile + warp * 16 * STRIDE, v_tile);
        for_each(p, [&](float &x, uint32_t column, int lower) {
            x = key + column < keys ? exp2_fast(fmaf(x, to_log2, -row_log_sum[lower])) : 0.0f;
        });
        int element = 0;
        for_each(ds, [&](float &x, uint32_t, int lower) {
            x = p[element / 8].at[element / 4 % 2][element % 4] * (x - row_delta[lower]);
            element++;
        });
        multiply(sum, ds, k_tile, STEPS);
        __syncthreads();
    }
    T *to = dq + size_t(blockIdx.z) * queries * dq_stride + blockIdx.y * head_dim;
    const float scales[2] = {scale, scale};
    write(to, dq_stride, first + warp * 16, queries, 0, head_dim, sum, scales);
}
REGISTER(NAME(attention_backward_q))
