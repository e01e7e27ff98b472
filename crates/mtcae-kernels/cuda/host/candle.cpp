// Candle's own kernels for the CPU, as far as models use them: what they compute, by the
// names and arguments that candle-kernels 0.11 gives them. Each runs once for its whole
// grid. Only what Candle has is here, so that what it lacks is missed here too.
#include "device.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

namespace {

// ---- elements: computed with in a wider type, where theirs is one of 16 bits ----

template <typename T> struct Wide {
    using type = T;
};
template <> struct Wide<bf16> {
    using type = float;
};
template <> struct Wide<f16> {
    using type = float;
};
template <typename T> using Widened = typename Wide<T>::type;

template <typename T> Widened<T> get(T x) {
    if constexpr (std::is_same_v<T, bf16>) return __bfloat162float(x);
    else if constexpr (std::is_same_v<T, f16>) return __half2float(x);
    else return x;
}

template <typename T, typename W> T put(W x) {
    if constexpr (std::is_same_v<T, bf16>) return __float2bfloat16(float(x));
    else if constexpr (std::is_same_v<T, f16>) return __float2half(float(x));
    else return T(x);
}

// ---- shapes ----

// The element that is i-th in order of dims, of memory with strides: `info` is one after
// the other; all lie side by side where there is none.
size_t strided(size_t i, size_t rank, const size_t *dims, const size_t *strides) {
    size_t at = 0;
    for (size_t d = rank; d-- > 0; i /= dims[d]) at += i % dims[d] * strides[d];
    return at;
}

size_t strided(size_t i, size_t rank, const size_t *info) { return info ? strided(i, rank, info, info + rank) : i; }

// ---- one operand ----

template <typename T, typename Op> void unary(size_t n, size_t rank, const size_t *info, const T *from, T *to) {
    for (size_t i = 0; i < n; i++) to[i] = put<T>(Op::of(get(from ? from[strided(i, rank, info)] : to[i])));
}

template <typename T, typename Op>
void unary_with(size_t n, size_t rank, const size_t *info, T parameter, const T *from, T *to) {
    for (size_t i = 0; i < n; i++)
        to[i] = put<T>(Op::of(get(from ? from[strided(i, rank, info)] : to[i]), get(parameter)));
}

template <typename T> void affine(size_t n, size_t rank, const size_t *info, const T *from, T *to, T mul, T add) {
    for (size_t i = 0; i < n; i++) {
        const auto x = get(from ? from[strided(i, rank, info)] : to[i]);
        // Of 16 bits the product is rounded before the sum, of others not.
        if constexpr (!std::is_same_v<T, Widened<T>>) to[i] = put<T>(get(put<T>(x * get(mul))) + get(add));
        else if constexpr (std::is_floating_point_v<T>) to[i] = std::fma(x, mul, add);
        else to[i] = T(x * mul + add);
    }
}

template <typename S, typename T> void cast(size_t n, size_t rank, const size_t *info, const S *from, T *to) {
    for (size_t i = 0; i < n; i++) {
        const auto x = get(from[strided(i, rank, info)]);
        if constexpr (std::is_integral_v<T> && std::is_floating_point_v<decltype(x)>) {
            // Conversions to integers stop at the ends of their range.
            using Limits = std::numeric_limits<T>;
            if (x != x) to[i] = 0;
            else if (double(x) >= double(Limits::max())) to[i] = Limits::max();
            else to[i] = double(x) <= double(Limits::min()) ? Limits::min() : T(x);
        } else {
            to[i] = put<T>(x);
        }
    }
}

template <typename T> void copy2d(const T *from, T *to, uint32_t d1, uint32_t d2, uint32_t from_stride, uint32_t to_stride) {
    const size_t threads = size_t(host::blocks.x) * host::threads.x;
    for (size_t i = 0; i < std::min(threads, size_t(d1) * d2); i++)
        to[i / d2 * to_stride + i % d2] = from[i / d2 * from_stride + i % d2];
}

template <typename T> void fill(T *to, T value, size_t n) { std::fill(to, to + n, value); }

template <typename T> void const_set(size_t n, size_t rank, const size_t *info, T value, T *to) {
    for (size_t i = 0; i < n; i++) to[strided(i, rank, info)] = value;
}

#define UNARY(name, expression)                                                                                        \
    struct name {                                                                                                      \
        template <typename W> static W of(W x) { return expression; }                                                  \
    };
UNARY(Copy, x)
UNARY(Neg, -x)
UNARY(Recip, W(1) / x)
UNARY(Exp, std::exp(x))
UNARY(Log, std::log(x))
UNARY(Sin, std::sin(x))
UNARY(Cos, std::cos(x))
UNARY(Tanh, std::tanh(x))
UNARY(Erf, std::erf(x))
UNARY(Ceil, std::ceil(x))
UNARY(Floor, std::floor(x))
UNARY(Round, std::round(x))
UNARY(NormCdf, std::erfc(-x * W(M_SQRT1_2)) / W(2))
UNARY(Abs, std::fabs(x))
UNARY(Sqr, x *x)
UNARY(Sqrt, std::sqrt(x))
UNARY(Gelu, x / W(2) * (W(1) + std::tanh(W(M_2_SQRTPI * M_SQRT1_2) * (x + W(0.044715) * x * x * x))))
UNARY(GeluErf, x *NormCdf::of(x))
UNARY(Relu, std::fmax(x, W(0)))
UNARY(Silu, x / (W(1) + std::exp(-x)))
UNARY(Sign, W((x > 0) - (x < 0)))
UNARY(Sigmoid, W(1) / (W(1) + std::exp(-x)))

struct Elu {
    template <typename W> static W of(W x, W alpha) { return x > 0 ? x : alpha * (std::exp(x) - 1); }
};
struct Powf {
    template <typename W> static W of(W x, W power) { return std::pow(x, power); }
};

// ---- two operands ----

template <typename T, typename R, typename Op>
void binary(size_t n, size_t rank, const size_t *info, const T *left, const T *right, R *to) {
    for (size_t i = 0; i < n; i++) {
        const size_t l = info ? strided(i, rank, info, info + rank) : i;
        const size_t r = info ? strided(i, rank, info, info + 2 * rank) : i;
        to[i] = put<R>(Op::of(get(left[l]), get(right[r])));
    }
}

#define BINARY(name, expression)                                                                                       \
    struct name {                                                                                                      \
        template <typename W> static auto of(W x, W y) { return expression; }                                          \
    };
BINARY(Add, W(x + y))
BINARY(Sub, W(x - y))
BINARY(Mul, W(x *y))
BINARY(Div, W(x / y))
BINARY(Maximum, x != x ? x : y != y ? y : std::max(x, y))
BINARY(Minimum, x != x ? x : y != y ? y : std::min(x, y))
BINARY(Eq, uint8_t(x == y))
BINARY(Ne, uint8_t(x != y))
BINARY(Lt, uint8_t(x < y))
BINARY(Le, uint8_t(x <= y))
BINARY(Gt, uint8_t(x > y))
BINARY(Ge, uint8_t(x >= y))

template <typename T, typename I>
void where(size_t n, size_t rank, const size_t *info, const I *ids, const T *yes, const T *no, T *to) {
    for (size_t i = 0; i < n; i++) {
        const bool is = ids[strided(i, rank, info, info + rank)];
        to[i] = is ? yes[strided(i, rank, info, info + 2 * rank)] : no[strided(i, rank, info, info + 3 * rank)];
    }
}

// ---- along the last dimensions: a block for each result ----

// What sums are kept in: bf16's in f32, all others' in their own type.
template <typename T> using Sum = std::conditional_t<std::is_same_v<T, bf16>, float, T>;

template <typename T>
void fast_sum(size_t n, size_t each, size_t rank, const size_t *info, const T *from, T *to) {
    std::vector<Sum<T>> partial(host::threads.x);
    for (size_t result = 0; result < host::blocks.x; result++) {
        std::fill(partial.begin(), partial.end(), put<Sum<T>>(0));
        const size_t end = std::min((result + 1) * each, n);
        for (size_t i = result * each; i < end; i++) {
            auto &sum = partial[(i - result * each) % partial.size()];
            sum = put<Sum<T>>(get(sum) + get(from[strided(i, rank, info)]));
        }
        for (size_t half = partial.size() / 2; half > 0; half /= 2)
            for (size_t i = 0; i < half; i++) partial[i] = put<Sum<T>>(get(partial[i]) + get(partial[i + half]));
        to[result] = put<T>(get(partial[0]));
    }
}

template <typename T>
void fast_sum_small(size_t results, size_t each, size_t rank, const size_t *info, const T *from, T *to) {
    const size_t threads = size_t(host::blocks.x) * host::threads.x;
    for (size_t result = 0; result < std::min(results, threads); result++) {
        Widened<T> sum = 0;
        for (size_t i = 0; i < each; i++) sum += get(from[strided(result * each + i, rank, info)]);
        to[result] = put<T>(sum);
    }
}

template <typename T, bool MOST> size_t best(size_t begin, size_t end, size_t rank, const size_t *info, const T *from) {
    size_t best = begin;
    for (size_t i = begin; i < end; i++) {
        const auto x = get(from[strided(i, rank, info)]), y = get(from[strided(best, rank, info)]);
        if (MOST ? x > y : x < y) best = i;
    }
    return best;
}

template <typename T, bool MOST>
void fast_best(size_t n, size_t each, size_t rank, const size_t *info, const T *from, T *to) {
    for (size_t result = 0; result < host::blocks.x; result++) {
        const size_t begin = result * each, end = std::min(begin + each, n);
        to[result] = from[strided(best<T, MOST>(begin, end, rank, info, from), rank, info)];
    }
}

template <typename T, bool MOST>
void fast_arg_best(size_t n, size_t each, size_t rank, const size_t *info, const T *from, uint32_t *to) {
    for (size_t result = 0; result < host::blocks.x; result++) {
        const size_t begin = result * each, end = std::min(begin + each, n);
        to[result] = uint32_t(best<T, MOST>(begin, end, rank, info, from) - begin);
    }
}

// ---- indices: the largest stands for no element ----

template <typename I> bool is_none(I id) { return id == std::numeric_limits<I>::max(); }

template <typename T, typename I>
void index_select(size_t n, size_t, const size_t *, const I *ids, const T *from, T *to, size_t, size_t from_dim,
                  size_t ids_dim, size_t right) {
    for (size_t i = 0; i < n; i++) {
        const I id = ids[i / right % ids_dim];
        to[i] = is_none(id) ? put<T>(0) : from[(i / (ids_dim * right) * from_dim + size_t(id)) * right + i % right];
    }
}

template <typename T, typename I>
void gather(size_t n, const I *ids, const T *from, T *to, size_t, size_t from_dim, size_t ids_dim, size_t right) {
    for (size_t i = 0; i < n; i++) {
        const size_t before = i / (right * ids_dim);
        to[i] = is_none(ids[i]) ? put<T>(0) : from[(before * from_dim + size_t(ids[i])) * right + i % right];
    }
}

template <typename T, typename I>
void index_add(const I *ids, size_t ids_dim, const T *from, T *to, size_t left, size_t, size_t to_dim, size_t right) {
    for (size_t i = 0; i < left * right; i++) {
        for (size_t j = 0; j < ids_dim; j++) {
            if (is_none(ids[j])) continue;
            T &sum = to[(i / right * to_dim + size_t(ids[j])) * right + i % right];
            sum = put<T>(get(sum) + get(from[(i / right * ids_dim + j) * right + i % right]));
        }
    }
}

template <typename T, typename I, bool ADD>
void scatter(const I *ids, const T *from, T *to, size_t left, size_t from_dim, size_t to_dim, size_t right) {
    for (size_t i = 0; i < left * right; i++) {
        for (size_t j = 0; j < from_dim; j++) {
            const size_t at = (i / right * from_dim + j) * right + i % right;
            if (is_none(ids[at])) continue;
            T &result = to[(i / right * to_dim + size_t(ids[at])) * right + i % right];
            result = ADD ? put<T>(get(result) + get(from[at])) : from[at];
        }
    }
}

// ---- names ----

template <auto F> void enlist(const std::string &name) {
    host::add_kernel(name.c_str(), {[](void **a) { host::call(F, a); }, host::parameters(F), true});
}

template <typename T> const char *type = nullptr;
template <> const char *type<bf16> = "_bf16";
template <> const char *type<f16> = "_f16";
template <> const char *type<float> = "_f32";
template <> const char *type<double> = "_f64";
template <> const char *type<uint8_t> = "_u8";
template <> const char *type<uint32_t> = "_u32";
template <> const char *type<int64_t> = "_i64";

template <typename T, typename I> void enlist_indexed() {
    const std::string suffix = std::string(type<I>) + type<T>;
    enlist<&where<T, I>>("where" + suffix);
    enlist<&index_select<T, I>>("is" + suffix);
    enlist<&gather<T, I>>("gather" + suffix);
    enlist<&index_add<T, I>>("ia" + suffix);
    enlist<&scatter<T, I, false>>("s" + suffix);
    enlist<&scatter<T, I, true>>("sa" + suffix);
}

template <typename T> void enlist_all() {
    const std::string t = type<T>;
    enlist<&affine<T>>("affine" + t);
    enlist<&unary<T, Copy>>("ucopy" + t);
    enlist<&copy2d<T>>("copy2d" + t);
    enlist<&fill<T>>("fill" + t);
    enlist<&const_set<T>>("const_set" + t);
    enlist<&binary<T, T, Add>>("badd" + t);
    enlist<&binary<T, T, Sub>>("bsub" + t);
    enlist<&binary<T, T, Mul>>("bmul" + t);
    enlist<&binary<T, T, Div>>("bdiv" + t);
    enlist<&binary<T, T, Maximum>>("bmaximum" + t);
    enlist<&binary<T, T, Minimum>>("bminimum" + t);
    enlist<&binary<T, uint8_t, Eq>>("eq" + t);
    enlist<&binary<T, uint8_t, Ne>>("ne" + t);
    enlist<&binary<T, uint8_t, Lt>>("lt" + t);
    enlist<&binary<T, uint8_t, Le>>("le" + t);
    enlist<&binary<T, uint8_t, Gt>>("gt" + t);
    enlist<&binary<T, uint8_t, Ge>>("ge" + t);
    enlist<&fast_sum<T>>("fast_sum" + t);
    enlist<&fast_sum_small<T>>("fast_sum_small" + t);
    enlist<&fast_best<T, false>>("fast_min" + t);
    enlist<&fast_best<T, true>>("fast_max" + t);
    enlist<&fast_arg_best<T, false>>("fast_argmin" + t);
    enlist<&fast_arg_best<T, true>>("fast_argmax" + t);
    enlist_indexed<T, uint8_t>();
    enlist_indexed<T, uint32_t>();
    enlist_indexed<T, int64_t>();
}

template <typename T> void enlist_float() {
    const std::string t = type<T>;
    enlist_all<T>();
    enlist<&unary<T, Neg>>("uneg" + t);
    enlist<&unary<T, Recip>>("urecip" + t);
    enlist<&unary<T, Exp>>("uexp" + t);
    enlist<&unary<T, Log>>("ulog" + t);
    enlist<&unary<T, Sin>>("usin" + t);
    enlist<&unary<T, Cos>>("ucos" + t);
    enlist<&unary<T, Tanh>>("utanh" + t);
    enlist<&unary<T, Erf>>("uerf" + t);
    enlist<&unary<T, Ceil>>("uceil" + t);
    enlist<&unary<T, Floor>>("ufloor" + t);
    enlist<&unary<T, Round>>("uround" + t);
    enlist<&unary<T, NormCdf>>("unormcdf" + t);
    enlist<&unary<T, Abs>>("uabs" + t);
    enlist<&unary<T, Sqr>>("usqr" + t);
    enlist<&unary<T, Sqrt>>("usqrt" + t);
    enlist<&unary<T, Gelu>>("ugelu" + t);
    enlist<&unary<T, GeluErf>>("ugelu_erf" + t);
    enlist<&unary<T, Relu>>("urelu" + t);
    enlist<&unary<T, Silu>>("usilu" + t);
    enlist<&unary<T, Sign>>("usign" + t);
    enlist<&unary<T, Sigmoid>>("usigmoid" + t);
    enlist<&unary_with<T, Elu>>("uelu" + t);
    enlist<&unary_with<T, Powf>>("upowf" + t);
}

template <typename S, typename... T> void enlist_casts() {
    (enlist<&cast<S, T>>(std::string("cast") + type<S> + type<T>), ...);
}

bool enlist_everything() {
    enlist_float<bf16>();
    enlist_float<f16>();
    enlist_float<float>();
    enlist_float<double>();
    enlist_all<uint8_t>();
    enlist_all<uint32_t>();
    enlist_all<int64_t>();
    enlist<&affine<int16_t>>("affine_i16");
    enlist<&affine<int32_t>>("affine_i32");
    enlist_casts<bf16, bf16, f16, float, double, uint8_t, uint32_t>();
    enlist_casts<f16, bf16, f16, float, double, uint8_t, uint32_t>();
    enlist_casts<float, bf16, f16, float, double, uint8_t, uint32_t, int64_t>();
    enlist_casts<double, bf16, f16, float, double, uint8_t, uint32_t, int64_t>();
    enlist_casts<uint8_t, bf16, f16, float, double, uint8_t, uint32_t, int64_t>();
    enlist_casts<uint32_t, bf16, f16, float, double, uint8_t, uint32_t, int64_t>();
    enlist_casts<int64_t, float, double, uint8_t, uint32_t, int64_t>();
    return true;
}

const bool enlisted = enlist_everything();

} // namespace
