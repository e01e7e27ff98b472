// Runs kernels on the CPU, block by block. The threads of a block are fibers that
// change in turn at every barrier, so that a missing barrier shows as a wrong result.
#include "device.h"

#include <csetjmp>
#include <map>
#include <memory>
#include <string>
#include <ucontext.h>
#include <vector>

namespace host {

__thread Index thread, block, threads, blocks;

namespace {

constexpr size_t STACK = 128 * 1024;

// A copy that was asked for, and the group it belongs to. It happens in `copies_wait`
// and not before: a kernel that reads too early reads what was there.
struct Copy {
    void *to;
    unsigned char bytes[16];
    unsigned size;
    int group;
};

// A fiber begins by a context; from then on it is left and entered by jumps, which ask
// nothing of the system. It serves block after block.
struct Fiber {
    std::unique_ptr<unsigned char[]> stack{new unsigned char[STACK]};
    jmp_buf at;
    std::vector<Copy> copies;
    int groups = 0;
    bool begun = false, done = false;
};

struct Barrier {
    unsigned arrived = 0, generation = 0;
};

struct Warp {
    Barrier barrier;
    unsigned char places[2][32][64];
    // Which of the places each lane uses next.
    unsigned parity[32] = {};
};

struct Kernels {
    std::map<std::string, Kernel> named;
};

Kernels &kernels() {
    static Kernels all;
    return all;
}

thread_local std::vector<unsigned char> shared;
thread_local std::vector<Fiber> fibers;
thread_local std::vector<Warp> warps;
thread_local Barrier whole;
thread_local jmp_buf scheduler;
thread_local unsigned current;
thread_local bool progressed;
thread_local Trampoline kernel;
thread_local void **arguments;

void yield() {
    if (!_setjmp(fibers[current].at)) _longjmp(scheduler, 1);
    thread = {current, 0, 0};
}

void wait(Barrier &barrier, unsigned count) {
    const unsigned generation = barrier.generation;
    progressed = true;
    if (++barrier.arrived == count) {
        barrier.arrived = 0;
        barrier.generation++;
        return;
    }
    while (barrier.generation == generation) yield();
}

void live() {
    for (;;) {
        kernel(arguments);
        fibers[current].done = true;
        progressed = true;
        yield();
    }
}

// Runs the current fiber until it yields.
void enter() {
    Fiber &fiber = fibers[current];
    if (_setjmp(scheduler)) return;
    if (fiber.begun) _longjmp(fiber.at, 1);
    fiber.begun = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, live, 0);
    setcontext(&context);
}

// False when threads wait for each other for ever.
bool run_block(unsigned shared_bytes) {
    // NaN in every type: what is read before it is written shows.
    shared.assign(shared_bytes + 16, 0xff);
    warps.resize((threads.x + 31) / 32);
    for (Warp &warp : warps) {
        warp.barrier = {};
        std::memset(warp.parity, 0, sizeof warp.parity);
    }
    whole = {};
    for (Fiber &fiber : fibers) {
        fiber.done = false;
        fiber.copies.clear();
        fiber.groups = 0;
    }
    for (bool left = true; left;) {
        left = progressed = false;
        for (current = 0; current < fibers.size(); current++) {
            if (fibers[current].done) continue;
            left = true;
            thread = {current, 0, 0};
            enter();
        }
        if (left && !progressed) {
            // They wait in the middle of this kernel, and will not be asked for another.
            fibers.clear();
            return false;
        }
    }
    return true;
}

} // namespace

unsigned char *shared_memory() {
    const size_t address = reinterpret_cast<size_t>(shared.data());
    return shared.data() + (16 - address % 16) % 16;
}

void block_barrier() { wait(whole, threads.x); }
void warp_barrier() { wait(warps[thread.x / 32].barrier, 32); }

unsigned char *exchange(unsigned lane) {
    Warp &warp = warps[thread.x / 32];
    return warp.places[warp.parity[thread.x % 32]][lane];
}

void end_exchange() { warps[thread.x / 32].parity[thread.x % 32] ^= 1; }

void copy_async(void *to, const void *from, unsigned bytes, bool valid) {
    Fiber &fiber = fibers[current];
    Copy copy = {to, {}, bytes, fiber.groups};
    if (valid) std::memcpy(copy.bytes, from, bytes);
    fiber.copies.push_back(copy);
}

void copies_end() { fibers[current].groups++; }

void copies_wait(int pending) {
    Fiber &fiber = fibers[current];
    std::vector<Copy> later;
    for (const Copy &copy : fiber.copies) {
        if (copy.group < fiber.groups - pending) std::memcpy(copy.to, copy.bytes, copy.size);
        else later.push_back(copy);
    }
    fiber.copies = later;
}

bool add_kernel(const char *name, Kernel kernel) { return kernels().named.emplace(name, std::move(kernel)).second; }

const Kernel *find_kernel(const char *name) {
    const auto found = kernels().named.find(name);
    return found == kernels().named.end() ? nullptr : &found->second;
}

bool run_kernel(const Kernel &called, const Index &grid, const Index &size, unsigned shared_bytes, void **given) {
    threads = size;
    blocks = grid;
    if (called.whole) {
        called.run(given);
        return true;
    }
    kernel = called.run;
    arguments = given;
    fibers.resize(size.x);
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                block = {x, y, z};
                if (!run_block(shared_bytes)) return false;
            }
        }
    }
    return true;
}

} // namespace host
