// Products of matrices as cuBLAS has them: column after column, each matrix given by its
// first element and the distance of its columns.
#pragma once
#include "pretend.h"

namespace pretend {

// What cuBLAS's functions return (cublasStatus_t).
enum Status {
    CUBLAS_OK = 0,
    CUBLAS_NOT_INITIALIZED = 1,
    CUBLAS_INVALID_VALUE = 7,
    CUBLAS_EXECUTION_FAILED = 13,
    CUBLAS_NOT_SUPPORTED = 15,
};

// cudaDataType_t.
enum Type { F32 = 0, F64 = 1, F16 = 2, BF16 = 14 };
// 0 for a type that is not known here.
size_t size_of(int type);

// cublasComputeType_t: what sums are kept in. False for one that is not known here.
struct Compute {
    bool f64 = false, tf32 = false;
    int scale = F32; // the type of alpha and beta
};
bool read_compute(int type, Compute &compute);

struct Matrix {
    Address at;
    int type;
    int64_t rows, columns; // as they lie in memory
    int64_t ld;
    int64_t stride; // from one of a batch to the next
};

// What cuBLASLt does beside the product (cublasLtEpilogue_t).
enum Epilogue { PLAIN = 1, BIAS = 4, BIAS_GRADIENT_A = 256, BIAS_GRADIENT_B = 512 };

// D = alpha op(A) op(B) + beta C, for each of a batch.
struct Product {
    const char *name;
    bool transpose_a, transpose_b;
    int64_t m, n, k, batch;
    Matrix a, b, c, d;
    Compute compute;
    double alpha, beta;
    int epilogue = PLAIN;
    // BIAS: m elements, added to every column of D. BIAS_GRADIENT_A: receives the m sums of
    // op(A) over k; BIAS_GRADIENT_B: the n of op(B).
    Address bias = 0;
    int bias_type = F32;
};

int multiply(const Product &product);

// alpha or beta, which lie with the host.
double scalar(const void *at, int type);

} // namespace pretend
