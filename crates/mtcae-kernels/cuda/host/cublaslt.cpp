// A stand-in for cuBLASLt on the pretend GPU (driver.cpp): products with a bias, with
// another C than D, and with the sums that are a bias's gradient.
#include "product.h"

#include <cstring>
#include <map>
#include <vector>

using namespace pretend;

namespace {

// Attributes as they were set, by number: cublasLtMatmulDescAttributes_t,
// cublasLtMatrixLayoutAttribute_t or cublasLtMatmulPreferenceAttributes_t.
struct Attributes {
    std::map<int, std::vector<unsigned char>> set;

    template <typename T> T get(int which, T otherwise) const {
        const auto found = set.find(which);
        if (found == set.end()) return otherwise;
        T value;
        std::memcpy(&value, found->second.data(), sizeof value);
        return value;
    }
    template <typename T> void put(int which, T value) {
        const auto *bytes = reinterpret_cast<const unsigned char *>(&value);
        set[which].assign(bytes, bytes + sizeof value);
    }
};

enum { COMPUTE_TYPE = 0, SCALE_TYPE = 1, POINTER_MODE = 2, TRANSA = 3, TRANSB = 4, TRANSC = 5, FILL_MODE = 6,
       EPILOGUE = 7, BIAS_POINTER = 8, BIAS_DATA_TYPE = 26 };
enum { LAYOUT_TYPE = 0, LAYOUT_ORDER = 1, ROWS = 2, COLUMNS = 3, LD = 4, BATCH = 5, STRIDE = 6 };
enum { SEARCH_MODE = 0, MAX_WORKSPACE = 1 };
constexpr int COLUMN_MAJOR = 0, NO_BIAS_TYPE = -1;

// How large the value of an attribute is; 0 for one that is not known here.
size_t size_of_description(int which) {
    switch (which) {
        case COMPUTE_TYPE: case SCALE_TYPE: case POINTER_MODE: case TRANSA: case TRANSB: case TRANSC: case FILL_MODE:
        case EPILOGUE: case BIAS_DATA_TYPE: return 4;
        case BIAS_POINTER: return 8;
        default: return 0;
    }
}

size_t size_of_layout(int which) {
    switch (which) {
        case LAYOUT_TYPE: case LAYOUT_ORDER: case BATCH: return 4;
        case ROWS: case COLUMNS: case LD: case STRIDE: return 8;
        default: return 0;
    }
}

int set(Handle attributes, int which, const void *value, size_t given, size_t needed) {
    if (!attributes || !value || given != needed) return CUBLAS_INVALID_VALUE;
    const auto *bytes = static_cast<const unsigned char *>(value);
    static_cast<Attributes *>(attributes)->set[which].assign(bytes, bytes + given);
    return CUBLAS_OK;
}

int destroy(Handle attributes) {
    delete static_cast<Attributes *>(attributes);
    return CUBLAS_OK;
}

Matrix matrix(const void *at, const Attributes &layout) {
    return {reinterpret_cast<Address>(at),         layout.get(LAYOUT_TYPE, F32),
            int64_t(layout.get<uint64_t>(ROWS, 0)), int64_t(layout.get<uint64_t>(COLUMNS, 0)),
            layout.get<int64_t>(LD, 0),             layout.get<int64_t>(STRIDE, 0)};
}

// A product as it is described; what is not done here is refused.
int describe(Product &p, Handle description, Handle a, Handle b, Handle c, Handle d) {
    if (!description || !a || !b || !c || !d) return CUBLAS_INVALID_VALUE;
    const Attributes &what = *static_cast<Attributes *>(description);
    std::vector<const Attributes *> layouts;
    for (const Handle layout : {a, b, c, d}) layouts.push_back(static_cast<Attributes *>(layout));
    p.name = "cublasLtMatmul";
    p.transpose_a = what.get(TRANSA, 0);
    p.transpose_b = what.get(TRANSB, 0);
    p.a = matrix(nullptr, *layouts[0]);
    p.b = matrix(nullptr, *layouts[1]);
    p.c = matrix(nullptr, *layouts[2]);
    p.d = matrix(nullptr, *layouts[3]);
    p.m = p.d.rows, p.n = p.d.columns;
    p.k = p.transpose_a ? p.a.rows : p.a.columns;
    p.batch = layouts[3]->get(BATCH, 1);
    const bool fit = (p.transpose_a ? p.a.columns : p.a.rows) == p.m && (p.transpose_b ? p.b.rows : p.b.columns) == p.n &&
                     (p.transpose_b ? p.b.columns : p.b.rows) == p.k && p.c.rows == p.m && p.c.columns == p.n;
    if (!fit) return CUBLAS_INVALID_VALUE;
    for (const Attributes *layout : layouts) {
        if (layout->get(BATCH, 1) != p.batch) return CUBLAS_INVALID_VALUE;
        if (layout->get(LAYOUT_ORDER, COLUMN_MAJOR) != COLUMN_MAJOR) return CUBLAS_NOT_SUPPORTED;
    }
    const int type = what.get(COMPUTE_TYPE, 0), scale = what.get(SCALE_TYPE, F32);
    if (!read_compute(type, p.compute) || what.get(POINTER_MODE, 0) || what.get(TRANSC, 0)) return CUBLAS_NOT_SUPPORTED;
    p.compute.scale = scale;
    p.epilogue = what.get(EPILOGUE, int(PLAIN));
    const bool known = p.epilogue == PLAIN || p.epilogue == BIAS || p.epilogue == BIAS_GRADIENT_A ||
                       p.epilogue == BIAS_GRADIENT_B;
    if (!known || (p.epilogue != PLAIN && p.batch != 1)) return CUBLAS_NOT_SUPPORTED;
    const int bias_type = what.get(BIAS_DATA_TYPE, NO_BIAS_TYPE);
    p.bias_type = bias_type == NO_BIAS_TYPE ? p.d.type : bias_type;
    p.bias = what.get<Address>(BIAS_POINTER, 0);
    if (p.epilogue == PLAIN) return CUBLAS_OK;
    // A bias has D's type, or is f32 where D is of 8 bits, which is nothing here.
    return p.bias_type == p.d.type ? CUBLAS_OK : CUBLAS_NOT_SUPPORTED;
}

struct Algorithm {
    uint64_t data[8];
};

// cublasLtMatmulHeuristicResult_t.
struct Heuristic {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

constexpr uint64_t THE_ALGORITHM = 0x6d74636165; // there is one
constexpr size_t WORKSPACE_ALIGNMENT = 256;

} // namespace

EXPORT int cublasLtCreate(Handle *handle) {
    if (!in_context() || sticky()) return CUBLAS_NOT_INITIALIZED;
    *handle = new int;
    return CUBLAS_OK;
}

EXPORT int cublasLtDestroy(Handle handle) {
    delete static_cast<int *>(handle);
    return handle ? CUBLAS_OK : CUBLAS_NOT_INITIALIZED;
}

EXPORT size_t cublasLtGetVersion() { return 130000; }

EXPORT int cublasLtMatmulDescCreate(Handle *description, int compute_type, int scale_type) {
    auto *made = new Attributes;
    made->put(COMPUTE_TYPE, compute_type);
    made->put(SCALE_TYPE, scale_type);
    *description = made;
    return CUBLAS_OK;
}

EXPORT int cublasLtMatmulDescSetAttribute(Handle description, int which, const void *value, size_t bytes) {
    return set(description, which, value, bytes, size_of_description(which));
}

EXPORT int cublasLtMatmulDescDestroy(Handle description) { return destroy(description); }

EXPORT int cublasLtMatrixLayoutCreate(Handle *layout, int type, uint64_t rows, uint64_t columns, int64_t ld) {
    auto *made = new Attributes;
    made->put(LAYOUT_TYPE, type);
    made->put(ROWS, rows);
    made->put(COLUMNS, columns);
    made->put(LD, ld);
    *layout = made;
    return CUBLAS_OK;
}

EXPORT int cublasLtMatrixLayoutSetAttribute(Handle layout, int which, const void *value, size_t bytes) {
    return set(layout, which, value, bytes, size_of_layout(which));
}

EXPORT int cublasLtMatrixLayoutDestroy(Handle layout) { return destroy(layout); }

EXPORT int cublasLtMatmulPreferenceCreate(Handle *preference) {
    *preference = new Attributes;
    return CUBLAS_OK;
}

EXPORT int cublasLtMatmulPreferenceSetAttribute(Handle preference, int which, const void *value, size_t bytes) {
    return set(preference, which, value, bytes, which == MAX_WORKSPACE ? 8 : 4);
}

EXPORT int cublasLtMatmulPreferenceDestroy(Handle preference) { return destroy(preference); }

EXPORT int cublasLtMatmulAlgoGetHeuristic(Handle handle, Handle description, Handle a, Handle b, Handle c, Handle d,
                                          Handle preference, int asked, Heuristic *results, int *given) {
    *given = 0;
    if (!handle) return CUBLAS_NOT_INITIALIZED;
    if (!preference || asked < 1) return CUBLAS_INVALID_VALUE;
    Product product{};
    const int described = describe(product, description, a, b, c, d);
    if (described != CUBLAS_OK) return described;
    results[0] = {{{THE_ALGORITHM}}, 0, CUBLAS_OK, 1.0f, {}};
    *given = 1;
    return CUBLAS_OK;
}

EXPORT int cublasLtMatmul(Handle handle, Handle description, const void *alpha, const void *a, Handle a_layout,
                          const void *b, Handle b_layout, const void *beta, const void *c, Handle c_layout, void *d,
                          Handle d_layout, const Algorithm *algorithm, void *workspace, size_t workspace_bytes,
                          Handle stream) {
    if (!handle) return CUBLAS_NOT_INITIALIZED;
    Product p{};
    const int described = describe(p, description, a_layout, b_layout, c_layout, d_layout);
    if (described != CUBLAS_OK) return described;
    if (!is_stream(stream) || (algorithm && algorithm->data[0] != THE_ALGORITHM)) return CUBLAS_INVALID_VALUE;
    const auto space = reinterpret_cast<Address>(workspace);
    if (workspace_bytes && (room(space) < workspace_bytes || space % WORKSPACE_ALIGNMENT)) {
        complain("cublasLtMatmul: a workspace of %zu bytes at 0x%llx", workspace_bytes, space);
        return CUBLAS_INVALID_VALUE;
    }
    p.a.at = reinterpret_cast<Address>(a);
    p.b.at = reinterpret_cast<Address>(b);
    p.c.at = reinterpret_cast<Address>(c);
    p.d.at = reinterpret_cast<Address>(d);
    p.alpha = scalar(alpha, p.compute.scale);
    p.beta = scalar(beta, p.compute.scale);
    // In place C is D, with its layout.
    if (c == d && (p.c.ld != p.d.ld || p.c.type != p.d.type)) return CUBLAS_INVALID_VALUE;
    return multiply(p);
}
