// softmax(Q·Kᵀ·scale)·V of each head and its backward, on tensor cores, for N×N self
// and N×M cross attention. The N×M matrix never leaves the registers.
//
// The forward follows FlashAttention-2 (Dao, 2023, arXiv 2307.08691): a block owns
// queries, goes along the keys and keeps a running maximum and sum. For the backward it
// leaves log₂ Σ exp of each row.
//
// The backward computes the probabilities again, twice: one kernel owns keys and goes
// along the queries (dK, dV), one owns queries and goes along the keys (dQ). That is
// 7 products where 5 would do, and in exchange no two blocks add to one number: no
// atomics, and results that repeat to the bit.
//
// What a block goes along lies in shared memory in two stages: while one is computed
// with, the next step's tiles are copied to the other. One barrier a step keeps that
// in order. Each thread passes it when its own copies of the step have arrived, so that
// behind it all of them have; and when it has done with the step before, so that behind
// it the other stage, which that step read, may be written to.
//
// A warp owns 16 rows, or 32 where the registers hold as much: shared memory feeds the
// tensor cores, each ldmatrix of what all warps share then serves twice as many
// products, and at 16 rows it is memory that is short. Where a warp's own rows fit into
// registers as well they are read once. A warp whose rows are all past the end only
// helps to copy.
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
constexpr bool HALF = ELEMENT == 2;
// Rows of a tile are padded so that neither ldmatrix nor pairs of floats meet in a bank.
constexpr int STRIDE = HEAD + 8;
constexpr int STEPS = HEAD / 16; // tiles of 16 channels

// Tile sizes, so that every kernel stays within 99 KiB of shared memory, which all
// GPUs from Ampere on have, and within the registers; and so that a processor of an H100
// holds two blocks or more of the models' kernels.
//
// Tiles of 16 rows that a warp owns in the forward, in dQ, and in dK and dV.
constexpr int ROWS = HALF && HEAD <= 128 ? 2 : 1, QUERY_ROWS = HALF && HEAD <= 64 ? 2 : 1, KEY_ROWS = QUERY_ROWS;
// How many of their tiles of channels are kept in registers: Q; Q and the gradient; K; V.
constexpr int Q_KEPT = HALF && HEAD <= 64 ? STEPS : 0, QUERY_KEPT = Q_KEPT, K_KEPT = Q_KEPT;
// (All of V would spill at 64.)
constexpr int V_KEPT = HEAD == 64 && HALF ? 2 : K_KEPT;
// The forward: queries of a block, keys of a step, keys that a warp works on at a time.
constexpr int BLOCK = HALF ? 64 * ROWS : HEAD > 176 ? 32 : 64;
constexpr int STEP = HALF ? (HEAD > 64 ? 32 : 64) : HEAD > 80 ? 16 : 32, PART = STEP > 32 ? 32 : STEP;
// Blocks of it that a processor's registers must hold: what one waits for, another covers.
constexpr int BLOCKS = HEAD <= 64 || (HALF && HEAD == 176) ? 3 : 2;
// dQ: as the forward.
constexpr int QUERY_BLOCK = HALF ? 64 * QUERY_ROWS : HEAD > 176 ? 16 : HEAD > 80 ? 32 : 64;
constexpr int QUERY_STEP = HALF ? (HEAD > 128 ? 16 : HEAD > 64 ? 32 : 64) : HEAD > 80 ? 16 : 32;
constexpr int QUERY_PART = QUERY_STEP > 32 ? 32 : QUERY_STEP;
// dK and dV: keys of a block, queries of a step, of which a warp works on 16 at a time,
// and blocks that a processor's registers must hold, 0 for as many as ptxas likes.
constexpr int KEY_BLOCK = HALF ? 64 * KEY_ROWS : HEAD > 176 ? 16 : HEAD > 80 ? 32 : 64;
constexpr int KEY_STEP = HALF && HEAD <= 128 ? 32 : 16, KEY_BLOCKS = HALF || HEAD > 64 ? 2 : 0;
// Channels of dK and dV that a block works on.
constexpr int CHANNELS = HALF ? (HEAD > 176 ? 128 : HEAD) : (HEAD > 96 ? 96 : HEAD);
// Threads of a block.
constexpr int THREADS = BLOCK / ROWS * 2, QUERY_THREADS = QUERY_BLOCK / QUERY_ROWS * 2;
constexpr int KEY_THREADS = KEY_BLOCK / KEY_ROWS * 2, DELTA_THREADS = 128;

// The probability of a logit x·scale is 2^(x·c − m·c), c = scale·log₂ e, relative to a
// row's largest x so far, m: one multiplication with addition and one ex2 for each
// element, and the maximum is one of products as they are. That takes a scale above
// zero: below it m would be the smallest logit, and at zero x·c of a masked key, −∞·0,
// no number. src/cuda/attention.rs refuses both.
constexpr float LOG2_E = 1.4426950408889634f;

// 16 bytes of a row.
constexpr int CHUNK = 16 / ELEMENT, CHUNKS = HEAD / CHUNK;

struct Operand {
    const T *data; // the head's first channel of the problem's first token
    uint32_t stride, tokens;
};

DEVICE Operand operand(const T *data, uint32_t tokens, uint32_t stride, uint32_t head_dim) {
    return {data + size_t(blockIdx.z) * tokens * stride + blockIdx.y * head_dim, stride, tokens};
}

// Fetches COUNT tokens from `first` on into a tile; zeros past the last token and the
// last channel. With `aligned`, rows are whole numbers of 16 bytes at multiples of 16.
template <int COUNT, int OF_THREADS>
DEVICE void fetch(T *tile, const Operand &o, uint32_t first, uint32_t head_dim, bool aligned) {
    if (aligned) {
        // A thread keeps to its channels: from copy to copy only the token changes.
        // Threads that make no whole row do nothing.
        constexpr int ACROSS = CHUNKS < OF_THREADS ? CHUNKS : OF_THREADS, DOWN = OF_THREADS / ACROSS;
        const uint32_t row = threadIdx.x / ACROSS, chunk = threadIdx.x % ACROSS;
        if (OF_THREADS % ACROSS != 0 && row >= DOWN) return;
#pragma unroll
        for (int n = 0; n < COUNT; n += DOWN) {
            if (COUNT % DOWN != 0 && n + row >= COUNT) break;
#pragma unroll
            for (int c = 0; c < CHUNKS; c += ACROSS) {
                const uint32_t token = first + row + n, channel = (chunk + c) * CHUNK;
                // What is not valid has an address that nobody reads from.
                const char *from = reinterpret_cast<const char *>(o.data + channel);
                from += size_t(token) * (o.stride * ELEMENT);
                copy_async<16>(tile + (row + n) * STRIDE + channel, from, token < o.tokens && channel < head_dim);
            }
        }
    } else {
#pragma unroll 1
        for (uint32_t i = threadIdx.x; i < COUNT * HEAD; i += OF_THREADS) {
            const uint32_t row = i / HEAD, channel = i % HEAD, token = first + row;
            const bool valid = token < o.tokens && channel < head_dim;
            tile[row * STRIDE + channel] = valid ? o.data[size_t(token) * o.stride + channel] : narrow<T>(0.0f);
        }
    }
}

// A number that belongs to a row of a tile lies in the padding behind it.
DEVICE float *beside(T *tile, uint32_t row) { return reinterpret_cast<float *>(tile + row * STRIDE + HEAD); }

// Fetches the numbers of COUNT tokens from `first` on, by the threads from FROM on; zeros past the last token.
template <int COUNT, int FROM> DEVICE void fetch_beside(T *tile, const float *of, uint32_t first, uint32_t tokens) {
    const uint32_t row = threadIdx.x - FROM, token = first + row;
    if (row < COUNT) copy_async<4>(beside(tile, row), of + token, token < tokens);
}

// The rows of a warp, R tiles of 16, as left operand. Their first KEPT tiles of channels
// are kept in registers, the others read in shared memory whenever they are asked for.
template <int R, int KEPT> struct Left {
    const T *rows;
    typename Tile<T>::Left kept[R][KEPT > 0 ? KEPT : 1];

    DEVICE explicit Left(const T *rows) : rows(rows) {
#pragma unroll
        for (int r = 0; r < R; r++) {
#pragma unroll
            for (int k = 0; k < KEPT; k++) kept[r][k] = read(r, k);
        }
    }
    DEVICE typename Tile<T>::Left read(int r, int k) const {
        return Tile<T>::left(rows + r * 16 * STRIDE + k * 16, STRIDE);
    }
    DEVICE typename Tile<T>::Left at(int r, int k) const { return k < KEPT ? kept[r][k] : read(r, k); }
};

// Calls `body` with each element of rows of 16-column tiles: number, column, and which
// of the lane's rows it is of: g, g + 8, g + 16 and so on.
template <int R, int TILES, typename F> DEVICE void for_each(Sum (&s)[R][TILES], const F &body) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
        for (int n = 0; n < TILES; n++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
#pragma unroll
                for (int e = 0; e < 4; e++) body(s[r][n].at[half][e], n * 16 + half * 8 + 2 * t + e % 2, 2 * r + e / 2);
            }
        }
    }
}

// The same of two at a time.
template <int R, int TILES, typename F>
DEVICE void for_both(Sum (&s)[R][TILES], const Sum (&with)[R][TILES], const F &body) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
        for (int n = 0; n < TILES; n++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const float other = with[r][n].at[half][e];
                    body(s[r][n].at[half][e], other, n * 16 + half * 8 + 2 * t + e % 2, 2 * r + e / 2);
                }
            }
        }
    }
}

// rows (16·R, HEAD) times columns (16·TILES, HEAD) transposed, added to s.
template <int R, int TILES, int KEPT>
DEVICE void multiply_transposed(Sum (&s)[R][TILES], const Left<R, KEPT> &rows, const T *columns) {
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
        typename Tile<T>::Left a[R];
#pragma unroll
        for (int r = 0; r < R; r++) a[r] = rows.at(r, k);
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            const auto b = Tile<T>::right_of_columns(columns + n * 16 * STRIDE + k * 16, STRIDE);
#pragma unroll
            for (int r = 0; r < R; r++) Tile<T>::multiply(s[r][n], a[r], b);
        }
    }
}

// p (16·R, 16·TILES) times rows (16·TILES, channels of `out`), added to out, of which
// `tiles` are wanted.
template <int R, int TILES, int OUT>
DEVICE void multiply(Sum (&out)[R][OUT], const Sum (&p)[R][TILES], const T *rows, int tiles) {
#pragma unroll
    for (int n = 0; n < TILES; n++) {
        typename Tile<T>::Left a[R];
#pragma unroll
        for (int r = 0; r < R; r++) a[r] = Tile<T>::left(p[r][n]);
#pragma unroll
        for (int d = 0; d < OUT; d++) {
            if (d < tiles) {
                const auto b = Tile<T>::right_of_rows(rows + n * 16 * STRIDE + d * 16, STRIDE);
#pragma unroll
                for (int r = 0; r < R; r++) Tile<T>::multiply(out[r][d], a[r], b);
            }
        }
    }
}

// Writes rows (16·R, channels from `channel` on) times `factor`, of tokens from `first`
// on: two channels at once where that can be.
template <int R, int TILES>
DEVICE void write(T *to, uint32_t stride, uint32_t first, uint32_t tokens, uint32_t channel, uint32_t head_dim,
                  const Sum (&s)[R][TILES], const float (&factor)[2 * R]) {
    const uint32_t g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    const bool pairs = reinterpret_cast<uintptr_t>(to) % (2 * ELEMENT) == 0 && stride % 2 == 0 && head_dim % 2 == 0;
#pragma unroll
    for (int row = 0; row < 2 * R; row++) {
        const uint32_t token = first + 8 * row + g;
        if (token >= tokens) continue;
        T *of_token = to + size_t(token) * stride;
#pragma unroll
        for (int n = 0; n < 2 * TILES; n++) {
            const float *two = s[row / 2][n / 2].at[n % 2] + row % 2 * 2;
            const Pack<T, 2> pack = {{narrow<T>(two[0] * factor[row]), narrow<T>(two[1] * factor[row])}};
            const uint32_t at = channel + n * 8 + 2 * t;
            if (pairs) {
                if (at < head_dim) store<2>(of_token + at, pack);
            } else {
                if (at < head_dim) of_token[at] = pack.at[0];
                if (at + 1 < head_dim) of_token[at + 1] = pack.at[1];
            }
        }
    }
}

} // namespace

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define NAME(kernel) JOIN(kernel, SUFFIX, HEAD)

// out (B, N, H·d) and, for each (b, h, n), log₂ of the row's sum of exponentials.
// Grid: blocks of queries, heads, problems.
KERNEL __launch_bounds__(THREADS, BLOCKS)
NAME(attention)(T *out, float *log_sums, const T *q, const T *k, const T *v, uint32_t heads, uint32_t queries,
                uint32_t keys, uint32_t head_dim, uint32_t q_stride, uint32_t kv_stride, float scale,
                uint32_t aligned) {
    DYNAMIC_SHARED(shared);
    T *q_tile = reinterpret_cast<T *>(shared), *stages = q_tile + BLOCK * STRIDE;
    const float to_log2 = scale * LOG2_E;
    const Operand of_q = operand(q, queries, q_stride, head_dim);
    const Operand of_k = operand(k, keys, kv_stride, head_dim), of_v = operand(v, keys, kv_stride, head_dim);
    const uint32_t first_of_block = blockIdx.x * BLOCK, own = threadIdx.x / WARP * 16 * ROWS;
    const uint32_t first = first_of_block + own;
    const auto fetch_step = [&](uint32_t key, uint32_t stage) {
        T *k_tile = stages + stage * 2 * STEP * STRIDE;
        fetch<STEP, THREADS>(k_tile, of_k, key, head_dim, aligned);
        fetch<STEP, THREADS>(k_tile + STEP * STRIDE, of_v, key, head_dim, aligned);
        copies_end();
    };

    fetch<BLOCK, THREADS>(q_tile, of_q, first_of_block, head_dim, aligned);
    fetch_step(0, 0);
    copies_wait<0>();
    __syncthreads();
    const Left<ROWS, Q_KEPT> q_rows(q_tile + own * STRIDE);

    Sum o[ROWS][STEPS];
    // Of each of the lane's rows: the largest x, the exponent that its probabilities
    // are relative to, their sum. The exponent follows the largest x·c only where that
    // has risen by more than RISE: o is seldom multiplied then, and a probability is
    // up to 2^RISE, which costs neither range nor digits.
    constexpr float RISE = 8;
    float max[2 * ROWS], top[2 * ROWS], sum[2 * ROWS];
    for (int i = 0; i < 2 * ROWS; i++) {
        max[i] = top[i] = -INFINITY;
        sum[i] = 0;
    }
    uint32_t stage = 0;
    for (uint32_t key = 0; key < keys; key += STEP, stage ^= 1) {
        const uint32_t next = key + STEP;
        copies_wait<0>();
        __syncthreads();
        if (next < keys) fetch_step(next, stage ^ 1);
        if (first >= queries) continue;
#pragma unroll 1
        for (int part = 0; part < STEP && key + part < keys; part += PART) {
            const T *k_tile = stages + (stage * 2 * STEP + part) * STRIDE, *v_tile = k_tile + STEP * STRIDE;
            const uint32_t first_key = key + part;
            Sum s[ROWS][PART / 16];
            multiply_transposed(s, q_rows, k_tile);
            if (first_key + PART > keys) {
                for_each(s, [&](float &x, uint32_t column, int) {
                    if (first_key + column >= keys) x = -INFINITY;
                });
            }
            for_each(s, [&](float x, uint32_t, int row) { max[row] = fmaxf(max[row], x); });
            float shrink[2 * ROWS];
            bool any = false;
#pragma unroll
            for (int i = 0; i < 2 * ROWS; i++) {
                // The four lanes of a row hold different columns.
                for (int lane = 1; lane < 4; lane *= 2) {
                    max[i] = fmaxf(max[i], __shfl_xor_sync(0xffffffffu, max[i], lane));
                }
                const float higher = max[i] * to_log2;
                const bool rises = higher > top[i] + RISE;
                shrink[i] = rises ? exp2_fast(top[i] - higher) : 1.0f;
                top[i] = rises ? higher : top[i];
                any |= rises;
            }
            if (any) {
#pragma unroll
                for (int i = 0; i < 2 * ROWS; i++) sum[i] *= shrink[i];
                for_each(o, [&](float &x, uint32_t, int row) { x *= shrink[row]; });
            }
            for_each(s, [&](float &x, uint32_t, int row) {
                x = exp2_fast(fmaf(x, to_log2, -top[row]));
                sum[row] += x;
            });
            multiply(o, s, v_tile, STEPS);
        }
    }

    float inverse[2 * ROWS];
#pragma unroll
    for (int i = 0; i < 2 * ROWS; i++) {
        for (int lane = 1; lane < 4; lane *= 2) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], lane);
        inverse[i] = 1.0f / sum[i];
        const uint32_t token = first + threadIdx.x % WARP / 4 + 8 * i;
        if (threadIdx.x % 4 == 0 && token < queries) {
            log_sums[(size_t(blockIdx.z) * heads + blockIdx.y) * queries + token] = top[i] + log2f(sum[i]);
        }
    }
    T *to = out + size_t(blockIdx.z) * queries * heads * head_dim + blockIdx.y * head_dim;
    write(to, heads * head_dim, first, queries, 0, head_dim, o, inverse);
}
REGISTER(NAME(attention))

// delta (B, H, N) = Σ_d grad·out, which the softmax's backward subtracts. As many lanes
// a row as it has chunks of 16 bytes, rounded up to a power of two.
// Grid: blocks of queries, heads, problems.
KERNEL __launch_bounds__(DELTA_THREADS)
NAME(attention_delta)(float *delta, const T *out, const T *grad, uint32_t heads, uint32_t queries,
                      uint32_t head_dim, uint32_t aligned) {
    constexpr int LANES = CHUNKS > 16 ? 32 : CHUNKS > 8 ? 16 : CHUNKS > 4 ? 8 : 4;
    const uint32_t token = blockIdx.x * (DELTA_THREADS / LANES) + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const size_t at = ((size_t(blockIdx.z) * queries + token) * heads + blockIdx.y) * head_dim;
    float sum = 0;
    for (uint32_t channel = lane * CHUNK; token < queries && channel < head_dim; channel += LANES * CHUNK) {
        if (aligned) {
            const auto a = load<CHUNK>(out + at + channel), b = load<CHUNK>(grad + at + channel);
            for (int e = 0; e < CHUNK; e++) sum += widen(a.at[e]) * widen(b.at[e]);
        } else {
            for (uint32_t e = channel; e < channel + CHUNK && e < head_dim; e++) {
                sum += widen(out[at + e]) * widen(grad[at + e]);
            }
        }
    }
    for (int step = LANES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (lane == 0 && token < queries) delta[(size_t(blockIdx.z) * heads + blockIdx.y) * queries + token] = sum;
}
REGISTER(NAME(attention_delta))

// dK and dV (B, M, ·). A block owns keys and, where the sums of all channels do not
// fit into the registers, CHANNELS of them; it goes along the queries. Everything is
// transposed: S^T = K·Qᵀ, so that P^T and dS^T are left operands as they are.
// Grid: blocks of keys × parts of the channels, heads, problems.
KERNEL __launch_bounds__(KEY_THREADS, KEY_BLOCKS)
NAME(attention_backward_kv)(T *dk, T *dv, const T *q, const T *k, const T *v, const T *grad, const float *log_sums,
                            const float *delta, uint32_t heads, uint32_t queries, uint32_t keys, uint32_t head_dim,
                            uint32_t q_stride, uint32_t kv_stride, uint32_t dkv_stride, float scale,
                            uint32_t aligned) {
    constexpr int PARTS = (HEAD + CHANNELS - 1) / CHANNELS;
    DYNAMIC_SHARED(shared);
    T *k_tile = reinterpret_cast<T *>(shared), *v_tile = k_tile + KEY_BLOCK * STRIDE;
    T *stages = v_tile + KEY_BLOCK * STRIDE;
    const float to_log2 = scale * LOG2_E;
    const Operand of_q = operand(q, queries, q_stride, head_dim), of_k = operand(k, keys, kv_stride, head_dim);
    const Operand of_v = operand(v, keys, kv_stride, head_dim);
    const Operand of_grad = operand(grad, queries, heads * head_dim, head_dim);
    const uint32_t first_of_block = blockIdx.x / PARTS * KEY_BLOCK, channel = blockIdx.x % PARTS * CHANNELS;
    const uint32_t own = threadIdx.x / WARP * 16 * KEY_ROWS, first = first_of_block + own;
    const size_t rows = (size_t(blockIdx.z) * heads + blockIdx.y) * queries;
    const int tiles = (HEAD - int(channel)) / 16;
    // Q and log_sums beside it, the gradient and delta beside it. A query past the last
    // has zeros throughout and with them a probability of 1: of a zero gradient, whose
    // dS is zero.
    const auto fetch_step = [&](uint32_t query, uint32_t stage) {
        T *q_tile = stages + stage * 2 * KEY_STEP * STRIDE, *grad_tile = q_tile + KEY_STEP * STRIDE;
        fetch<KEY_STEP, KEY_THREADS>(q_tile, of_q, query, head_dim, aligned);
        fetch<KEY_STEP, KEY_THREADS>(grad_tile, of_grad, query, head_dim, aligned);
        static_assert(KEY_THREADS >= 2 * KEY_STEP, "a thread for each number");
        fetch_beside<KEY_STEP, 0>(q_tile, log_sums + rows, query, queries);
        fetch_beside<KEY_STEP, KEY_STEP>(grad_tile, delta + rows, query, queries);
        copies_end();
    };

    fetch<KEY_BLOCK, KEY_THREADS>(k_tile, of_k, first_of_block, head_dim, aligned);
    fetch<KEY_BLOCK, KEY_THREADS>(v_tile, of_v, first_of_block, head_dim, aligned);
    fetch_step(0, 0);
    copies_wait<0>();
    __syncthreads();
    const Left<KEY_ROWS, K_KEPT> k_rows(k_tile + own * STRIDE);
    const Left<KEY_ROWS, V_KEPT> v_rows(v_tile + own * STRIDE);

    Sum sum_k[KEY_ROWS][CHANNELS / 16], sum_v[KEY_ROWS][CHANNELS / 16];
    uint32_t stage = 0;
    for (uint32_t query = 0; query < queries; query += KEY_STEP, stage ^= 1) {
        copies_wait<0>();
        __syncthreads();
        if (query + KEY_STEP < queries) fetch_step(query + KEY_STEP, stage ^ 1);
        if (first >= keys) continue;
#pragma unroll 1
        for (int part = 0; part < KEY_STEP && query + part < queries; part += 16) {
            T *q_tile = stages + (stage * 2 * KEY_STEP + part) * STRIDE, *grad_tile = q_tile + KEY_STEP * STRIDE;
            Sum p[KEY_ROWS][1], ds[KEY_ROWS][1];
            multiply_transposed(p, k_rows, q_tile);
            multiply_transposed(ds, v_rows, grad_tile);
            for_each(p, [&](float &x, uint32_t column, int) {
                x = exp2_fast(fmaf(x, to_log2, -*beside(q_tile, column)));
            });
            for_both(ds, p, [&](float &x, float of, uint32_t column, int) {
                x = of * (x - *beside(grad_tile, column));
            });
            multiply(sum_v, p, grad_tile + channel, tiles);
            multiply(sum_k, ds, q_tile + channel, tiles);
        }
    }
    const size_t at = size_t(blockIdx.z) * keys * dkv_stride + blockIdx.y * head_dim;
    float one[2 * KEY_ROWS], scales[2 * KEY_ROWS];
    for (int i = 0; i < 2 * KEY_ROWS; i++) {
        one[i] = 1.0f;
        scales[i] = scale;
    }
    write(dv + at, dkv_stride, first, keys, channel, head_dim, sum_v, one);
    write(dk + at, dkv_stride, first, keys, channel, head_dim, sum_k, scales);
}
REGISTER(NAME(attention_backward_kv))

// dQ (B, N, ·). A block owns queries and goes along the keys.
// Grid: blocks of queries, heads, problems.
KERNEL __launch_bounds__(QUERY_THREADS)
NAME(attention_backward_q)(T *dq, const T *q, const T *k, const T *v, const T *grad, const float *log_sums,
                           const float *delta, uint32_t heads, uint32_t queries, uint32_t keys, uint32_t head_dim,
                           uint32_t q_stride, uint32_t kv_stride, uint32_t dq_stride, float scale,
                           uint32_t aligned) {
    DYNAMIC_SHARED(shared);
    T *q_tile = reinterpret_cast<T *>(shared), *grad_tile = q_tile + QUERY_BLOCK * STRIDE;
    T *stages = grad_tile + QUERY_BLOCK * STRIDE;
    const float to_log2 = scale * LOG2_E;
    const Operand of_q = operand(q, queries, q_stride, head_dim), of_k = operand(k, keys, kv_stride, head_dim);
    const Operand of_v = operand(v, keys, kv_stride, head_dim);
    const Operand of_grad = operand(grad, queries, heads * head_dim, head_dim);
    const uint32_t first_of_block = blockIdx.x * QUERY_BLOCK, own = threadIdx.x / WARP * 16 * QUERY_ROWS;
    const uint32_t first = first_of_block + own;
    const size_t rows = (size_t(blockIdx.z) * heads + blockIdx.y) * queries;
    const auto fetch_step = [&](uint32_t key, uint32_t stage) {
        T *k_tile = stages + stage * 2 * QUERY_STEP * STRIDE;
        fetch<QUERY_STEP, QUERY_THREADS>(k_tile, of_k, key, head_dim, aligned);
        fetch<QUERY_STEP, QUERY_THREADS>(k_tile + QUERY_STEP * STRIDE, of_v, key, head_dim, aligned);
        copies_end();
    };

    fetch<QUERY_BLOCK, QUERY_THREADS>(q_tile, of_q, first_of_block, head_dim, aligned);
    fetch<QUERY_BLOCK, QUERY_THREADS>(grad_tile, of_grad, first_of_block, head_dim, aligned);
    fetch_step(0, 0);
    float row_log_sum[2 * QUERY_ROWS], row_delta[2 * QUERY_ROWS];
#pragma unroll
    for (int i = 0; i < 2 * QUERY_ROWS; i++) {
        // A query past the last has an infinite sum, and so no probabilities.
        const uint32_t token = first + threadIdx.x % WARP / 4 + 8 * i;
        row_log_sum[i] = token < queries ? log_sums[rows + token] : INFINITY;
        row_delta[i] = token < queries ? delta[rows + token] : 0.0f;
    }
    copies_wait<0>();
    __syncthreads();
    const Left<QUERY_ROWS, QUERY_KEPT> q_rows(q_tile + own * STRIDE), grad_rows(grad_tile + own * STRIDE);

    Sum sum[QUERY_ROWS][STEPS];
    uint32_t stage = 0;
    for (uint32_t key = 0; key < keys; key += QUERY_STEP, stage ^= 1) {
        copies_wait<0>();
        __syncthreads();
        if (key + QUERY_STEP < keys) fetch_step(key + QUERY_STEP, stage ^ 1);
        if (first >= queries) continue;
#pragma unroll 1
        for (int part = 0; part < QUERY_STEP && key + part < keys; part += QUERY_PART) {
            const T *k_tile = stages + (stage * 2 * QUERY_STEP + part) * STRIDE, *v_tile = k_tile + QUERY_STEP * STRIDE;
            Sum p[QUERY_ROWS][QUERY_PART / 16], ds[QUERY_ROWS][QUERY_PART / 16];
            multiply_transposed(p, q_rows, k_tile);
            multiply_transposed(ds, grad_rows, v_tile);
            for_each(p, [&](float &x, uint32_t, int row) { x = exp2_fast(fmaf(x, to_log2, -row_log_sum[row])); });
            for_both(ds, p, [&](float &x, float of, uint32_t, int row) { x = of * (x - row_delta[row]); });
            // A key past the last is no zero times a probability that may be infinite.
            if (key + part + QUERY_PART > keys) {
                for_each(ds, [&](float &x, uint32_t column, int) {
                    if (key + part + column >= keys) x = 0;
                });
            }
            multiply(sum, ds, k_tile, STEPS);
        }
    }
    T *to = dq + size_t(blockIdx.z) * queries * dq_stride + blockIdx.y * head_dim;
    float scales[2 * QUERY_ROWS];
    for (float &s : scales) s = scale;
    write(to, dq_stride, first, queries, 0, head_dim, sum, scales);
}
REGISTER(NAME(attention_backward_q))
