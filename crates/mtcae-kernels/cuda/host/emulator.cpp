// Runs kernels on the CPU, block by block. The threads of a block are fibers that
// change in turn at every barrier, so that a missing barrier shows as a wrong result.
#include "device.h"

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

struct Fiber {
    ucontext_t context;
    std::unique_ptr<unsigned char[]> stack{new unsigned char[STACK]};
    std::vector<Copy> copies;
    int groups = 0;
    bool done = false;
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
    std::map<std::string, Trampoline> named;
};

Kernels &kernels() {
    static Kernels all;
    return all;
}

thread_local std::vector<unsigned char> shared;
thread_local std::vector<Fiber> fibers;
thread_local std::vector<Warp> warps;
thread_local Barrier whole;
thread_local ucontext_t scheduler;
thread_local unsigned current;
thread_local bool progressed;
thread_local Trampoline kernel;
thread_local void **arguments;

void yield() {
    swapcontext(&fibers[current].context, &scheduler);
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

void body() {
    kernel(arguments);
    fibers[current].done = true;
    progressed = true;
    swapcontext(&fibers[current].context, &scheduler);
}

// False when threads wait for each other for ever.
bool run_block(unsigned shared_bytes) {
    // NaN in every type: what is read before it is written shows.
    shared.assign(shared_bytes + 16, 0xff);
    warps.assign((threads.x + 31) / 32, Warp{});
    whole = {};
    for (Fiber &fiber : fibers) {
        fiber.done = false;
        fiber.copies.clear();
        fiber.groups = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, body, 0);
    }
    for (bool left = true; left;) {
        left = progressed = false;
        for (current = 0; current < fibers.size(); current++) {
            if (fibers[current].done) continue;
            left = true;
            thread = {current, 0, 0};
            swapcontext(&scheduler, &fibers[current].context);
        }
        if (left && !progressed) return false;
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

bool add_kernel(const char *name, Trampoline run) { return kernels().named.emplace(name, run).second; }

} // namespace host

// Runs a kernel. 0: done; 1: there is no such kernel; 2: its threads wait for each
// other for ever.
extern "C" int mtcae_emulate(const char *name, const unsigned *grid, unsigned block, unsigned shared_bytes,
                             void **arguments) {
    using namespace host;
    const auto found = kernels().named.find(name);
    if (found == kernels().named.end()) return 1;
    kernel = found->second;
    host::arguments = arguments;
    threads = {block, 1, 1};
    blocks = {grid[0], grid[1], grid[2]};
    fibers.resize(block);
    for (unsigned z = 0; z < grid[2]; z++) {
        for (unsigned y = 0; y < grid[1]; y++) {
            for (unsigned x = 0; x < grid[0]; x++) {
                host::block = {x, y, z};
                if (!run_block(shared_bytes)) return 2;
            }
        }
    }
    return 0;
}
