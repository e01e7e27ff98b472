// Settings, faults, trace and memory of the pretend GPU (driver.cpp says what they do).
#include "pretend.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <unistd.h>
#include <vector>

namespace pretend {

namespace {

constexpr size_t GUARD = 512; // what allocations are aligned to, too
constexpr unsigned char GUARD_BYTE = 0xdb;
// NaN in every float type: what is read before it is written shows, and after its end too.
constexpr unsigned char FRESH = 0xff;
// Bytes of memory that was given back and is still watched.
constexpr size_t QUARANTINE = size_t(256) << 20;

[[noreturn]] void misused(const char *variable, const std::string &value) {
    std::fprintf(stderr, "pretend GPU: %s=%s is not understood; see crates/mtcae-kernels/cuda/host/driver.cpp\n",
                 variable, value.c_str());
    std::exit(2);
}

std::string environment(const char *variable) {
    const char *value = std::getenv(variable);
    return value ? value : "";
}

// A number with K, M or G of 1024 behind it.
size_t bytes_of(const char *variable, const std::string &text) {
    char *end;
    size_t number = std::strtoull(text.c_str(), &end, 10);
    const std::string unit = end;
    if (end == text.c_str()) misused(variable, text);
    if (unit.empty()) return number;
    for (const char *known : {"K", "M", "G"}) {
        number <<= 10;
        if (unit == known) return number;
    }
    misused(variable, text);
}

void read_gpu(Settings &s) {
    const char *variable = "MTCAE_PRETEND_GPU";
    std::string left = environment(variable);
    while (!left.empty()) {
        const size_t comma = left.find(',');
        const std::string part = left.substr(0, comma);
        left = comma == std::string::npos ? "" : left.substr(comma + 1);
        const size_t equals = part.find('=');
        const std::string key = part.substr(0, equals), value = equals == std::string::npos ? "" : part.substr(equals + 1);
        if (key == "none") s.none = true;
        else if (key == "name") s.name = value;
        else if (key == "memory") s.memory = bytes_of(variable, value);
        else if (key == "driver") s.driver = int(bytes_of(variable, value));
        else if (key != "capability" || std::sscanf(value.c_str(), "%d.%d", &s.major, &s.minor) != 2)
            misused(variable, part);
    }
}

void read_fault(Settings &s) {
    const char *variable = "MTCAE_PRETEND_FAULT";
    const std::string fault = environment(variable);
    if (fault.empty()) return;
    const size_t first = fault.find(':');
    const std::string kind = fault.substr(0, first);
    std::string rest = first == std::string::npos ? "" : fault.substr(first + 1);
    for (const auto &[name, is] : {std::pair{"wrong", Fault::Wrong}, {"hang", Fault::Hang}, {"sticky", Fault::Sticky},
                                   {"refuse", Fault::Refuse}, {"memory", Fault::Memory}})
        if (kind == name) s.fault = is;
    if (s.fault == Fault::None || rest.empty()) misused(variable, fault);
    if (s.fault == Fault::Memory) {
        s.number = bytes_of(variable, rest);
        return;
    }
    const size_t second = rest.find(':');
    s.prefix = rest.substr(0, second);
    s.number = second == std::string::npos ? 1 : bytes_of(variable, rest.substr(second + 1));
}

Settings read() {
    Settings s;
    read_gpu(s);
    read_fault(s);
    s.count = environment("MTCAE_PRETEND_COUNT") == "1";
    return s;
}

struct Allocation {
    size_t bytes;
    std::vector<unsigned char> memory; // with guards; empty where nothing is computed
};

struct Freed {
    Address address;
    Allocation allocation;
};

struct Memory {
    std::map<Address, Allocation> live;
    std::deque<Freed> freed;
    size_t quarantined = 0;
    Usage usage{};
    Address next = 0x700000000000; // of addresses that stand for nothing
};

Memory &memory() {
    static Memory *all = new Memory; // beyond the end of the process: static objects may still give memory back
    return *all;
}

unsigned char *bytes(Address address) { return reinterpret_cast<unsigned char *>(address); }

bool all_of(const unsigned char *from, size_t n, unsigned char value) {
    return n == 0 || (from[0] == value && std::memcmp(from, from + 1, n - 1) == 0);
}

void forget_oldest() {
    Freed &oldest = memory().freed.front();
    if (!all_of(bytes(oldest.address), oldest.allocation.bytes, FRESH)) {
        complain("memory of %zu bytes was written after it was given back", oldest.allocation.bytes);
        stick(ILLEGAL_ADDRESS);
    }
    memory().quarantined -= oldest.allocation.bytes;
    memory().freed.pop_front();
}

// The allocation that an address lies in, or nothing.
std::map<Address, Allocation>::iterator find(Address address) {
    auto &live = memory().live;
    auto after = live.upper_bound(address);
    if (after == live.begin()) return live.end();
    --after;
    return address < after->first + after->second.bytes ? after : live.end();
}

struct Trace {
    FILE *file;
    struct Total {
        size_t lines = 0, bytes = 0;
    };
    std::map<std::string, Total> totals;

    Trace() {
        const std::string path = environment("MTCAE_PRETEND_TRACE");
        file = path.empty() ? nullptr : std::fopen(path.c_str(), "w");
        if (!path.empty() && !file) misused("MTCAE_PRETEND_TRACE", path);
    }
    ~Trace() {
        if (!file) return;
        for (const auto &[kind, total] : totals)
            std::fprintf(file, "total\t%s\t%zu\t-\t%zu\n", kind.c_str(), total.lines, total.bytes);
        std::fclose(file);
        file = nullptr;
    }
};

int stuck = 0;
bool hanging = false;
size_t struck = 0;

} // namespace

const Settings &settings() {
    static const Settings *all = new Settings(read());
    return *all;
}

std::recursive_mutex &mutex() {
    static auto *one = new std::recursive_mutex;
    return *one;
}

int sticky() { return stuck; }

int stick(Result error) {
    if (!stuck) stuck = error;
    return stuck;
}

void hang() { hanging = true; }

void wait() {
    if (!hanging) return;
    for (;;) pause();
}

bool strikes(Fault kind, const char *name) {
    const Settings &s = settings();
    if (s.fault != kind || std::strncmp(name, s.prefix.c_str(), s.prefix.size()) != 0) return false;
    struck++;
    return kind == Fault::Wrong ? struck >= s.number : struck == s.number;
}

void complain(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fputs("pretend GPU: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputc('\n', stderr);
    va_end(arguments);
}

Address allocate(size_t size) {
    const Settings &s = settings();
    Memory &all = memory();
    const size_t limit = s.fault == Fault::Memory && s.number < s.memory ? s.number : s.memory;
    if (size > limit - all.usage.now) return 0;
    Allocation allocation{size, {}};
    Address address;
    if (s.count) {
        address = all.next;
        all.next += (size + GUARD - 1) / GUARD * GUARD + GUARD;
    } else {
        allocation.memory.assign(size + 3 * GUARD, GUARD_BYTE);
        const Address begin = reinterpret_cast<Address>(allocation.memory.data()) + GUARD;
        address = (begin + GUARD - 1) / GUARD * GUARD;
        std::memset(bytes(address), FRESH, size);
    }
    all.usage.now += size;
    if (all.usage.now > all.usage.most) all.usage.most = all.usage.now;
    all.live.emplace(address, std::move(allocation));
    return address;
}

bool release(Address address) {
    Memory &all = memory();
    const auto found = all.live.find(address);
    if (found == all.live.end()) return false;
    intact(address, "something");
    all.usage.now -= found->second.bytes;
    if (!settings().count) {
        std::memset(bytes(address), FRESH, found->second.bytes);
        all.quarantined += found->second.bytes;
        all.freed.push_back({address, std::move(found->second)});
        while (all.quarantined > QUARANTINE) forget_oldest();
    }
    all.live.erase(found);
    return true;
}

size_t room(Address address) {
    const auto found = find(address);
    return found == memory().live.end() ? 0 : found->first + found->second.bytes - address;
}

Address owner(Address address) {
    const auto found = find(address);
    return found == memory().live.end() ? 0 : found->first;
}

bool intact(Address address, const char *by) {
    if (settings().count) return true;
    const auto found = find(address);
    if (found == memory().live.end()) return true;
    const Address end = found->first + found->second.bytes;
    if (all_of(bytes(found->first - GUARD), GUARD, GUARD_BYTE) && all_of(bytes(end), GUARD, GUARD_BYTE)) return true;
    complain("%s wrote beyond the ends of an allocation of %zu bytes", by, found->second.bytes);
    stick(ILLEGAL_ADDRESS);
    return false;
}

Usage &usage() { return memory().usage; }

void trace(const char *kind, const char *name, const std::string &shape, const std::string &block, size_t bytes) {
    static Trace trace;
    if (!trace.file) return;
    std::fprintf(trace.file, "%s\t%s\t%s\t%s\t%zu\n", kind, name, shape.c_str(), block.c_str(), bytes);
    Trace::Total &total = trace.totals[kind];
    total.lines++;
    total.bytes += bytes;
}

} // namespace pretend
