// The driver's functions for modules, kernels and launches, and its words for errors (see
// driver.cpp).
#include "device.h"
#include "pretend.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <unistd.h>

using namespace pretend;

namespace {

struct Function {
    std::string name;
    const host::Kernel *kernel;
    unsigned shared = SHARED;
};

struct Module {
    std::string ptx; // empty where the image is none
    std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Loaded {
    std::set<Handle> modules, functions;
};

Loaded &loaded() {
    static Loaded *all = new Loaded;
    return *all;
}

std::string triple(unsigned x, unsigned y, unsigned z) {
    return std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z);
}

// Whether PTX is for this GPU and this driver.
Result judge(const std::string &ptx) {
    int major = 0, minor = 0, target = 0;
    const size_t version = ptx.find(".version "), architecture = ptx.find(".target sm_");
    if (version == std::string::npos || architecture == std::string::npos) return ptx.empty() ? SUCCESS : INVALID_PTX;
    std::sscanf(ptx.c_str() + version, ".version %d.%d", &major, &minor);
    std::sscanf(ptx.c_str() + architecture, ".target sm_%d", &target);
    // PTX 8 is of CUDA 12, 9 of 13.
    if (major + 4 > settings().driver / 1000) return UNSUPPORTED_PTX_VERSION;
    return target > settings().major * 10 + settings().minor ? NO_BINARY_FOR_GPU : SUCCESS;
}

// Whether all addresses that a kernel is given lie somewhere, and bytes for the trace.
bool sound(const Function &function, void **arguments, size_t &bytes) {
    std::map<Address, Address> lowest;
    const auto &parameters = function.kernel->parameters;
    for (size_t i = 0; i < parameters.size(); i++) {
        if (!parameters[i].pointer) continue;
        const Address address = *static_cast<Address *>(arguments[i]);
        if (!address) continue;
        const Address base = owner(address);
        if (!base) {
            complain("%s: argument %zu is 0x%llx, which lies in no memory", function.name.c_str(), i, address);
            return false;
        }
        if (address % std::min<size_t>(parameters[i].element, 16)) {
            complain("%s: argument %zu is 0x%llx, which is not aligned", function.name.c_str(), i, address);
            return false;
        }
        const auto [at, fresh] = lowest.emplace(base, address);
        if (!fresh) at->second = std::min(at->second, address);
    }
    bytes = 0;
    for (const auto &one : lowest) bytes += room(one.second);
    return true;
}

// The kernel that runs, for what ends the process in it.
const char *volatile running = nullptr;

void ended(int signal) {
    const char *name = running;
    const char *what = signal == SIGILL ? ": an address is misaligned\n" : ": an address is that of no memory, or misaligned\n";
    if (name)
        for (const char *text : {"pretend GPU: ", name, what})
            if (write(STDERR_FILENO, text, std::strlen(text)) < 0) break;
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

// Whether threads do not wait for each other for ever.
bool emulate(const Function &function, const host::Index &grid, const host::Index &block, unsigned shared, void **arguments) {
    // Misaligned addresses trap where scripts/pretend_gpu.sh compiles the kernels.
    static const bool watched = std::signal(SIGILL, ended) != SIG_ERR && std::signal(SIGSEGV, ended) != SIG_ERR;
    running = watched ? function.name.c_str() : nullptr;
    const bool done = host::run_kernel(*function.kernel, grid, block, shared, arguments);
    running = nullptr;
    return done;
}

Result run(const Function &function, const host::Index &grid, const host::Index &block, unsigned shared, void **arguments) {
    const host::Kernel &kernel = *function.kernel;
    if (!kernel.whole && (block.y != 1 || block.z != 1)) {
        complain("%s: the emulator runs blocks of one dimension", function.name.c_str());
        return INVALID_VALUE;
    }
    if (!emulate(function, grid, block, shared, arguments)) {
        complain("%s: its threads wait for each other for ever", function.name.c_str());
        return LAUNCH_FAILED;
    }
    bool spoil = strikes(Fault::Wrong, function.name.c_str());
    for (size_t i = 0; i < kernel.parameters.size(); i++) {
        const host::Parameter &parameter = kernel.parameters[i];
        if (!parameter.pointer) continue;
        const Address address = *static_cast<Address *>(arguments[i]);
        if (!address || !parameter.written) continue;
        if (!intact(address, function.name.c_str())) return ILLEGAL_ADDRESS;
        if (spoil) reinterpret_cast<unsigned char *>(address)[parameter.element - 1] ^= 0x40;
        spoil = false;
    }
    return SUCCESS;
}

} // namespace

EXPORT int cuModuleLoadData(Handle *module, const void *image) {
    IN_CONTEXT;
    NEEDS(image, INVALID_VALUE);
    const char *text = static_cast<const char *>(image);
    const bool binary = !std::memcmp(text, "\x7f" "ELF", 4) || !std::memcmp(text, "\x50\xed\x55\xba", 4);
    auto made = std::make_unique<Module>();
    if (!binary) made->ptx = text;
    const Result judged = judge(made->ptx);
    NEEDS(judged == SUCCESS, judged);
    *module = made.release();
    loaded().modules.insert(*module);
    return SUCCESS;
}

EXPORT int cuModuleUnload(Handle module) {
    IN_CONTEXT;
    NEEDS(loaded().modules.erase(module), INVALID_HANDLE);
    const std::unique_ptr<Module> gone(static_cast<Module *>(module));
    for (const auto &named : gone->functions) loaded().functions.erase(named.second.get());
    return SUCCESS;
}

EXPORT int cuModuleGetFunction(Handle *function, Handle module, const char *name) {
    IN_CONTEXT;
    NEEDS(loaded().modules.count(module), INVALID_HANDLE);
    Module &of = *static_cast<Module *>(module);
    auto &known = of.functions[name];
    if (!known) {
        const host::Kernel *kernel = host::find_kernel(name);
        // Where there is real PTX, the kernel must be in it.
        const bool real = of.ptx.find(".entry ") != std::string::npos;
        if (real && of.ptx.find(std::string(".entry ") + name + "(") == std::string::npos) kernel = nullptr;
        if (!kernel) {
            complain("there is no kernel %s", name);
            of.functions.erase(name);
            return NOT_FOUND;
        }
        known = std::make_unique<Function>(Function{name, kernel});
        loaded().functions.insert(known.get());
    }
    *function = known.get();
    return SUCCESS;
}

namespace {

// CUfunction_attribute.
enum { MAX_THREADS = 0, STATIC_SHARED = 1, REGISTERS = 4, DYNAMIC_SHARED = 8, CARVEOUT = 9 };

} // namespace

EXPORT int cuFuncGetAttribute(int *value, int which, Handle function) {
    IN_CONTEXT;
    NEEDS(loaded().functions.count(function), INVALID_HANDLE);
    switch (which) {
        case MAX_THREADS: *value = 1024; return SUCCESS;
        case STATIC_SHARED: *value = 0; return SUCCESS;
        case REGISTERS: *value = 64; return SUCCESS;
        case DYNAMIC_SHARED: *value = int(static_cast<Function *>(function)->shared); return SUCCESS;
        default: return INVALID_VALUE;
    }
}

EXPORT int cuFuncSetAttribute(Handle function, int which, int value) {
    IN_CONTEXT;
    NEEDS(loaded().functions.count(function), INVALID_HANDLE);
    if (which == CARVEOUT) return SUCCESS;
    NEEDS(which == DYNAMIC_SHARED && value >= 0 && unsigned(value) <= most_shared(), INVALID_VALUE);
    static_cast<Function *>(function)->shared = unsigned(value);
    return SUCCESS;
}

EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, Handle function, int size, size_t shared,
                                                                unsigned) {
    IN_CONTEXT;
    NEEDS(loaded().functions.count(function) && size > 0, INVALID_VALUE);
    // 64 registers of 65536 for each thread; 1 KiB of each block is the system's.
    const size_t by_shared = (most_shared() + 1024) / (shared + 1024);
    *blocks = int(std::min({size_t(1024 / size), by_shared, size_t(32)}));
    return SUCCESS;
}

EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Handle function, int size, size_t shared) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, size, shared, 0);
}

EXPORT int cuLaunchKernel(Handle handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          unsigned shared, Handle stream, void **arguments, void **extra) {
    IN_CONTEXT;
    NEEDS(loaded().functions.count(handle) && is_stream(stream), INVALID_HANDLE);
    const Function &function = *static_cast<Function *>(handle);
    const char *name = function.name.c_str();
    const uint64_t threads = uint64_t(bx) * by * bz;
    if (!gx || !gy || !gz || gx > 0x7fffffff || gy > 65535 || gz > 65535 || !threads || threads > 1024 || bz > 64 ||
        extra) {
        complain("%s: grid %s of blocks %s", name, triple(gx, gy, gz).c_str(), triple(bx, by, bz).c_str());
        return INVALID_VALUE;
    }
    if (shared > function.shared) {
        complain("%s: %u bytes of shared memory where %u are allowed", name, shared, function.shared);
        return INVALID_VALUE;
    }
    if (strikes(Fault::Refuse, name)) return LAUNCH_OUT_OF_RESOURCES;
    if (strikes(Fault::Sticky, name)) return stick(LAUNCH_FAILED);
    if (strikes(Fault::Hang, name)) hang();
    size_t bytes;
    if (!sound(function, arguments, bytes)) return stick(ILLEGAL_ADDRESS);
    trace("launch", name, triple(gx, gy, gz), triple(bx, by, bz), bytes);
    if (settings().count) return SUCCESS;
    const Result ran = run(function, {gx, gy, gz}, {bx, by, bz}, shared, arguments);
    return ran == LAUNCH_FAILED || ran == ILLEGAL_ADDRESS ? stick(ran) : ran;
}

// ---- errors ----

namespace {

struct Words {
    int error;
    const char *name, *text;
};

constexpr Words WORDS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
};

const Words *words(int error) {
    for (const Words &one : WORDS)
        if (one.error == error) return &one;
    return nullptr;
}

} // namespace

EXPORT int cuGetErrorName(int error, const char **name) {
    const Words *found = words(error);
    *name = found ? found->name : nullptr;
    return found ? SUCCESS : INVALID_VALUE;
}

EXPORT int cuGetErrorString(int error, const char **text) {
    const Words *found = words(error);
    *text = found ? found->text : nullptr;
    return found ? SUCCESS : INVALID_VALUE;
}
