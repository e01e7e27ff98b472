// A stand-in for cuRAND on the pretend GPU (driver.cpp): generators come and go, but
// the models draw their numbers on the CPU.
#include "pretend.h"

using namespace pretend;

namespace {

constexpr int CURAND_OK = 0, CURAND_NOT_INITIALIZED = 101, CURAND_INITIALIZATION_FAILED = 203;

struct Generator {
    unsigned long long seed = 0;
};

} // namespace

EXPORT int curandCreateGenerator(Handle *generator, int) {
    if (!in_context() || sticky()) return CURAND_INITIALIZATION_FAILED;
    *generator = new Generator;
    return CURAND_OK;
}

EXPORT int curandDestroyGenerator(Handle generator) {
    delete static_cast<Generator *>(generator);
    return generator ? CURAND_OK : CURAND_NOT_INITIALIZED;
}

EXPORT int curandSetPseudoRandomGeneratorSeed(Handle generator, unsigned long long seed) {
    if (!generator) return CURAND_NOT_INITIALIZED;
    static_cast<Generator *>(generator)->seed = seed;
    return CURAND_OK;
}

EXPORT int curandSetStream(Handle generator, Handle stream) {
    return generator && is_stream(stream) ? CURAND_OK : CURAND_NOT_INITIALIZED;
}
