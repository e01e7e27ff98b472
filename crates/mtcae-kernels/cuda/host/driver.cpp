// A stand-in for NVIDIA's driver, libcuda.so.1: kernels run on the CPU (emulator.cpp),
// each when it is launched, so that a whole program runs as it is where there is no GPU.
// `scripts/pretend_gpu.sh FOLDER` builds it; LD_LIBRARY_PATH=FOLDER uses it.
//
// It refuses what a driver refuses, and more: every address that a kernel is given must
// lie in memory that was taken and not given back. Memory is NaN when it is taken and
// after it was given back, and what is written beyond its ends or after its end is found
// out. Whatever was found out is on stderr, and fails as a GPU fails: with an error that
// stays.
//
// Environment:
//   MTCAE_PRETEND_GPU=KEY=VALUE,...  what there is: name, capability (9.0), memory (141G),
//       driver (13000); `none`: no GPU
//   MTCAE_PRETEND_TRACE=FILE  a line for everything that is asked for, of fields between
//       tabs: kind (launch, product, copy, memset, alloc, free, mark), name, grid or shape,
//       block, bytes. The bytes of a launch are those of each allocation that it is given an
//       address in, from the lowest such address to the allocation's end; those of a product,
//       of its operands. At the end a line `total KIND LINES - BYTES` for each kind.
//   MTCAE_PRETEND_COUNT=1  nothing is computed and no memory is taken, so that large models
//       can be traced: addresses are invented, what comes back is 0
//   MTCAE_PRETEND_FAULT=KIND:PREFIX[:N]  one fault, in launches and products whose name
//       begins with PREFIX, at the Nth of them (the first):
//       wrong   the first element of the first operand that they write is spoiled, from the
//               Nth on
//       hang    nothing is ever done from then on: whoever waits for the GPU waits for ever
//       sticky  it fails, and all that is asked for afterwards
//       refuse  it is refused, and nothing else
//   MTCAE_PRETEND_FAULT=memory:BYTES  there is no room for more than that at once
#include "pretend.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <set>

using namespace pretend;

namespace {

using Clock = std::chrono::steady_clock;

struct Event {
    bool timing, recorded = false;
    Clock::time_point at{};
};

struct Driver {
    bool started = false;
    std::set<Handle> streams, events;
};

Driver &driver() {
    static Driver *one = new Driver;
    return *one;
}

int the_context; // its address is the context
thread_local Handle current = nullptr;

int attribute(int which) {
    switch (which) {
        case 1: case 2: case 3: return 1024; // threads in a block, in x, in y
        case 4: return 64;
        case 5: return 0x7fffffff; // blocks in x
        case 6: case 7: return 65535;
        case 8: return SHARED;
        case 10: return 32; // of a warp
        case 12: return 65536; // registers of a block
        case 13: return 1980000; // kHz
        case 16: return 132; // multiprocessors
        case 36: return 3201000; // kHz of the memory
        case 37: return 6144; // bits of its bus
        case 38: return 60 << 20; // L2
        case 39: return 2048; // threads of a multiprocessor
        case 41: return 1; // one address space
        case 75: return settings().major;
        case 76: return settings().minor;
        case 81: return int(most_shared() + 1024);
        case 82: return 65536;
        case 97: return int(most_shared());
        case 106: return 32; // blocks of a multiprocessor
        case 115: return 1; // memory pools
        default: return 0;
    }
}

} // namespace

namespace pretend {

bool in_context() { return current; }

bool is_stream(Handle stream) {
    // The default one, as it was and for each thread.
    return reinterpret_cast<size_t>(stream) <= 2 || driver().streams.count(stream);
}

// What a block may have of shared memory after asking (CUDA C++ Programming Guide,
// "Compute capabilities").
unsigned most_shared() {
    const int capability = settings().major * 10 + settings().minor;
    if (capability < 80) return 64 * 1024;
    if (capability == 80 || capability == 87) return 163 * 1024;
    if (capability == 86 || capability == 89 || capability >= 120) return 99 * 1024;
    return 227 * 1024;
}

} // namespace pretend

// ---- the device ----

EXPORT int cuInit(unsigned) {
    ONE_AT_A_TIME;
    NEEDS(!settings().none, NO_DEVICE);
    driver().started = true;
    return SUCCESS;
}

EXPORT int cuDriverGetVersion(int *version) {
    *version = settings().driver;
    return SUCCESS;
}

EXPORT int cuDeviceGetCount(int *count) {
    ONE_AT_A_TIME;
    NEEDS(driver().started, NOT_INITIALIZED);
    *count = 1;
    return SUCCESS;
}

EXPORT int cuDeviceGet(int *device, int ordinal) {
    ONE_AT_A_TIME;
    NEEDS(driver().started, NOT_INITIALIZED);
    NEEDS(ordinal == 0, INVALID_DEVICE);
    *device = 0;
    return SUCCESS;
}

EXPORT int cuDeviceGetName(char *name, int room, int device) {
    ONE_AT_A_TIME;
    NEEDS(device == 0, INVALID_DEVICE);
    std::snprintf(name, size_t(room), "%s", settings().name.c_str());
    return SUCCESS;
}

EXPORT int cuDeviceGetAttribute(int *value, int which, int device) {
    ONE_AT_A_TIME;
    NEEDS(device == 0, INVALID_DEVICE);
    *value = attribute(which);
    return SUCCESS;
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    ONE_AT_A_TIME;
    NEEDS(device == 0, INVALID_DEVICE);
    *bytes = settings().memory;
    return SUCCESS;
}

EXPORT int cuDeviceGetUuid_v2(void *uuid, int device) {
    ONE_AT_A_TIME;
    NEEDS(device == 0, INVALID_DEVICE);
    std::memset(uuid, 0, 16);
    return SUCCESS;
}

// ---- contexts ----

EXPORT int cuDevicePrimaryCtxRetain(Handle *context, int device) {
    ONE_AT_A_TIME;
    NEEDS(device == 0, INVALID_DEVICE);
    *context = &the_context;
    return SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int) {
    ONE_AT_A_TIME;
    return SUCCESS;
}

EXPORT int cuCtxGetCurrent(Handle *context) {
    ONE_AT_A_TIME;
    *context = current;
    return SUCCESS;
}

EXPORT int cuCtxSetCurrent(Handle context) {
    ONE_AT_A_TIME;
    NEEDS(!context || context == &the_context, INVALID_CONTEXT);
    current = context;
    return SUCCESS;
}

EXPORT int cuCtxSynchronize() {
    wait();
    IN_CONTEXT;
    return SUCCESS;
}

EXPORT int cuCtxSetFlags(unsigned) {
    IN_CONTEXT;
    return SUCCESS;
}

EXPORT int cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    IN_CONTEXT;
    if (least) *least = 0;
    if (greatest) *greatest = 0;
    return SUCCESS;
}

EXPORT int cuProfilerStart() {
    IN_CONTEXT;
    trace("mark", "start", "-", "-", 0);
    return SUCCESS;
}

EXPORT int cuProfilerStop() {
    IN_CONTEXT;
    trace("mark", "stop", "-", "-", 0);
    return SUCCESS;
}

// ---- streams and events ----

EXPORT int cuStreamCreate(Handle *stream, unsigned) {
    IN_CONTEXT;
    *stream = new int;
    driver().streams.insert(*stream);
    return SUCCESS;
}

EXPORT int cuStreamCreateWithPriority(Handle *stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

EXPORT int cuStreamDestroy_v2(Handle stream) {
    IN_CONTEXT;
    NEEDS(driver().streams.erase(stream), INVALID_HANDLE);
    delete static_cast<int *>(stream);
    return SUCCESS;
}

EXPORT int cuStreamSynchronize(Handle stream) {
    wait();
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    return SUCCESS;
}

EXPORT int cuStreamQuery(Handle stream) {
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    return SUCCESS;
}

EXPORT int cuStreamIsCapturing(Handle stream, int *status) {
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    *status = 0;
    return SUCCESS;
}

EXPORT int cuStreamWaitEvent(Handle stream, Handle event, unsigned) {
    IN_CONTEXT;
    NEEDS(is_stream(stream) && driver().events.count(event), INVALID_HANDLE);
    return SUCCESS;
}

EXPORT int cuEventCreate(Handle *event, unsigned flags) {
    IN_CONTEXT;
    *event = new Event{!(flags & 2)}; // CU_EVENT_DISABLE_TIMING
    driver().events.insert(*event);
    return SUCCESS;
}

EXPORT int cuEventDestroy_v2(Handle event) {
    IN_CONTEXT;
    NEEDS(driver().events.erase(event), INVALID_HANDLE);
    delete static_cast<Event *>(event);
    return SUCCESS;
}

EXPORT int cuEventRecord(Handle event, Handle stream) {
    IN_CONTEXT;
    NEEDS(is_stream(stream) && driver().events.count(event), INVALID_HANDLE);
    Event &recorded = *static_cast<Event *>(event);
    recorded.recorded = true;
    recorded.at = Clock::now();
    return SUCCESS;
}

EXPORT int cuEventQuery(Handle event) {
    IN_CONTEXT;
    NEEDS(driver().events.count(event), INVALID_HANDLE);
    return SUCCESS;
}

EXPORT int cuEventSynchronize(Handle event) {
    wait();
    return cuEventQuery(event);
}

EXPORT int cuEventElapsedTime_v2(float *milliseconds, Handle start, Handle end) {
    IN_CONTEXT;
    NEEDS(driver().events.count(start) && driver().events.count(end), INVALID_HANDLE);
    const Event &from = *static_cast<Event *>(start), &to = *static_cast<Event *>(end);
    NEEDS(from.timing && to.timing && from.recorded && to.recorded, INVALID_HANDLE);
    *milliseconds = std::chrono::duration<float, std::milli>(to.at - from.at).count();
    return SUCCESS;
}

EXPORT int cuEventElapsedTime(float *milliseconds, Handle start, Handle end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}
