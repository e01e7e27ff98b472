// What the parts of the pretend GPU share: libcuda.so.1 has the state, cuBLAS and
// cuRAND ask it. See driver.cpp for what it is and how it is set.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace pretend {

using Address = unsigned long long;

// What the driver's functions return (cuda.h, CUresult).
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_PTX = 218,
    UNSUPPORTED_PTX_VERSION = 222,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    LAUNCH_FAILED = 719,
};

enum class Fault { None, Wrong, Hang, Sticky, Refuse, Memory };

struct Settings {
    std::string name = "NVIDIA H200 (pretended)";
    int major = 9, minor = 0, driver = 13000;
    size_t memory = size_t(141) << 30;
    bool none = false;
    // Nothing is computed, and no memory is taken.
    bool count = false;
    Fault fault = Fault::None;
    std::string prefix;
    size_t number = 0;
};

const Settings &settings();
// Everything happens at once, under this.
std::recursive_mutex &mutex();

// What the process has run into; all that follows fails with it. 0: nothing.
int sticky();
int stick(Result error);
// Never comes back once the fault `hang` has struck.
void wait();

// ---- faults ----

// Whether the fault of settings strikes work of this name, which counts.
bool strikes(Fault kind, const char *name);
// Fault `hang`: from now on nothing is ever done.
void hang();
// A line on stderr; for what a driver would leave to be found out.
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- memory ----

// 0 where there is no room.
Address allocate(size_t bytes);
// False where there is no such allocation.
bool release(Address address);
// Bytes from an address to its allocation's end; 0 where it lies in none.
size_t room(Address address);
// Which allocation an address lies in: its begin; 0 where there is none.
Address owner(Address address);
// False, said on stderr, where something was written beyond the allocation's ends.
bool intact(Address address, const char *by);
struct Usage {
    size_t now, most;
};
Usage &usage();

// ---- trace ----

// One line; shape and block may be "-".
void trace(const char *kind, const char *name, const std::string &shape, const std::string &block, size_t bytes);

// ---- the driver ----

using Handle = void *;

constexpr unsigned SHARED = 48 * 1024; // bytes of a block, without asking for more
unsigned most_shared();                // and after asking
bool in_context();
bool is_stream(Handle stream);

} // namespace pretend

// Every function waits for the others, and fails once something has failed for good.
#define ONE_AT_A_TIME                                                                                                  \
    const std::lock_guard<std::recursive_mutex> guard(mutex());                                                        \
    if (sticky()) return sticky()
#define IN_CONTEXT                                                                                                     \
    ONE_AT_A_TIME;                                                                                                     \
    if (!in_context()) return INVALID_CONTEXT
// `ok`, or an error.
#define NEEDS(ok, error)                                                                                               \
    if (!(ok)) return error
