// The driver's functions for memory and copies (see driver.cpp).
#include "pretend.h"

#include <cstdlib>
#include <cstring>

using namespace pretend;

namespace {

int copy(const char *kind, void *to, const void *from, size_t bytes, Address device_to, Address device_from) {
    for (const Address address : {device_to, device_from}) {
        if (address && room(address) < bytes) {
            complain("copy %s of %zu bytes: 0x%llx has room for %zu", kind, bytes, address, room(address));
            return INVALID_VALUE;
        }
    }
    trace("copy", kind, "-", "-", bytes);
    if (!settings().count) std::memmove(to, from, bytes);
    else if (!device_to) std::memset(to, 0, bytes);
    return SUCCESS;
}

void *host_of(Address address) { return reinterpret_cast<void *>(address); }

// Fills with elements of `size` bytes.
int fill(Address to, const void *element, size_t size, size_t n) {
    if (room(to) < size * n) {
        complain("memset of %zu bytes: 0x%llx has room for %zu", size * n, to, room(to));
        return INVALID_VALUE;
    }
    trace("memset", "memset", "-", "-", size * n);
    if (settings().count) return SUCCESS;
    for (size_t i = 0; i < n; i++) std::memcpy(static_cast<char *>(host_of(to)) + i * size, element, size);
    return SUCCESS;
}

int take(const char *name, Address *address, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    *address = allocate(bytes);
    if (!*address) return OUT_OF_MEMORY;
    trace("alloc", name, "-", "-", bytes);
    return SUCCESS;
}

int give_back(const char *name, Address address) {
    const size_t bytes = room(address);
    if (owner(address) != address || !release(address)) {
        complain("%s of 0x%llx, which is no memory, or no longer", name, address);
        return INVALID_VALUE;
    }
    trace("free", name, "-", "-", bytes);
    return sticky();
}

int the_pool;

} // namespace

EXPORT int cuMemAlloc_v2(Address *address, size_t bytes) {
    IN_CONTEXT;
    return take("cuMemAlloc", address, bytes);
}

EXPORT int cuMemAllocAsync(Address *address, size_t bytes, Handle stream) {
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    return take("cuMemAllocAsync", address, bytes);
}

EXPORT int cuMemFree_v2(Address address) {
    IN_CONTEXT;
    return address ? give_back("cuMemFree", address) : SUCCESS;
}

EXPORT int cuMemFreeAsync(Address address, Handle stream) {
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    return give_back("cuMemFreeAsync", address);
}

EXPORT int cuMemGetInfo_v2(size_t *free, size_t *total) {
    IN_CONTEXT;
    *total = settings().memory;
    *free = *total - usage().now;
    return SUCCESS;
}

EXPORT int cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    IN_CONTEXT;
    *memory = std::malloc(bytes);
    return *memory ? SUCCESS : OUT_OF_MEMORY;
}

EXPORT int cuMemFreeHost(void *memory) {
    IN_CONTEXT;
    std::free(memory);
    return SUCCESS;
}

// ---- pools: one, which gives back what it holds at once ----

EXPORT int cuDeviceGetMemPool(Handle *pool, int device) {
    ONE_AT_A_TIME;
    NEEDS(device == 0, INVALID_DEVICE);
    *pool = &the_pool;
    return SUCCESS;
}

EXPORT int cuDeviceGetDefaultMemPool(Handle *pool, int device) { return cuDeviceGetMemPool(pool, device); }

EXPORT int cuMemPoolTrimTo(Handle pool, size_t) {
    ONE_AT_A_TIME;
    NEEDS(pool == &the_pool, INVALID_VALUE);
    return SUCCESS;
}

namespace {

// CUmemPool_attribute.
enum { RELEASE_THRESHOLD = 4, RESERVED_CURRENT = 5, RESERVED_HIGH = 6, USED_CURRENT = 7, USED_HIGH = 8 };

} // namespace

EXPORT int cuMemPoolGetAttribute(Handle pool, int which, void *value) {
    ONE_AT_A_TIME;
    NEEDS(pool == &the_pool && which >= RELEASE_THRESHOLD && which <= USED_HIGH, INVALID_VALUE);
    const bool high = which == RESERVED_HIGH || which == USED_HIGH;
    const uint64_t bytes = which == RELEASE_THRESHOLD ? 0 : high ? usage().most : usage().now;
    std::memcpy(value, &bytes, sizeof bytes);
    return SUCCESS;
}

EXPORT int cuMemPoolSetAttribute(Handle pool, int which, const void *value) {
    ONE_AT_A_TIME;
    NEEDS(pool == &the_pool, INVALID_VALUE);
    uint64_t bytes;
    std::memcpy(&bytes, value, sizeof bytes);
    if (which == RELEASE_THRESHOLD) return SUCCESS;
    // The most so far begins anew.
    NEEDS((which == RESERVED_HIGH || which == USED_HIGH) && bytes == 0, INVALID_VALUE);
    usage().most = usage().now;
    return SUCCESS;
}

// ---- copies ----

EXPORT int cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
    IN_CONTEXT;
    return copy("HtoD", host_of(to), from, bytes, to, 0);
}

EXPORT int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Handle stream) {
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    return copy("HtoD", host_of(to), from, bytes, to, 0);
}

EXPORT int cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) {
    wait();
    IN_CONTEXT;
    return copy("DtoH", to, host_of(from), bytes, 0, from);
}

EXPORT int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Handle stream) {
    // Of memory that is not locked a copy is waited for.
    wait();
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    return copy("DtoH", to, host_of(from), bytes, 0, from);
}

EXPORT int cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) {
    IN_CONTEXT;
    return copy("DtoD", host_of(to), host_of(from), bytes, to, from);
}

EXPORT int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Handle stream) {
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    return copy("DtoD", host_of(to), host_of(from), bytes, to, from);
}

EXPORT int cuMemcpyPeerAsync(Address to, Handle, Address from, Handle, size_t bytes, Handle stream) {
    return cuMemcpyDtoDAsync_v2(to, from, bytes, stream);
}

EXPORT int cuMemsetD8_v2(Address to, unsigned char value, size_t n) {
    IN_CONTEXT;
    return fill(to, &value, 1, n);
}

EXPORT int cuMemsetD8Async(Address to, unsigned char value, size_t n, Handle stream) {
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    return fill(to, &value, 1, n);
}

EXPORT int cuMemsetD32Async(Address to, unsigned value, size_t n, Handle stream) {
    IN_CONTEXT;
    NEEDS(is_stream(stream), INVALID_HANDLE);
    return fill(to, &value, 4, n);
}
