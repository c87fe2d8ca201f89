// File mappings: I/O through them can't be seen, so that they exist is recorded.
#include "preload.h"

/// A mapping of a file. Address 0: free; 1: being filled.
struct mapping {
  uint64_t address, bytes, offset;
  uint32_t id, flags;
};
#define MAX_MAPPINGS 1024u
static struct mapping mappings[MAX_MAPPINGS];
static uint32_t mappings_used;

static void remember_mapping(uint64_t address, uint64_t bytes, uint64_t offset, uint32_t id, uint32_t flags) {
  for (uint32_t i = 0; i < MAX_MAPPINGS; i++) {
    uint64_t none = 0;
    struct mapping *mapping = &mappings[i];
    if (__atomic_load_n(&mapping->address, __ATOMIC_RELAXED)) continue;
    if (!__atomic_compare_exchange_n(&mapping->address, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
    mapping->bytes = bytes;
    mapping->offset = offset;
    mapping->id = id;
    mapping->flags = flags;
    __atomic_store_n(&mapping->address, address, __ATOMIC_RELEASE);
    uint32_t used = __atomic_load_n(&mappings_used, __ATOMIC_RELAXED);
    while (used < i + 1 && !__atomic_compare_exchange_n(&mappings_used, &used, i + 1, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {}
    return;
  }
}

/// The mapping that holds `address`, copied; `take` frees the entry when the range begins it.
static bool find_mapping(uint64_t address, bool take, struct mapping *found) {
  uint32_t used = __atomic_load_n(&mappings_used, __ATOMIC_ACQUIRE);
  for (uint32_t i = 0; i < used; i++) {
    uint64_t start = __atomic_load_n(&mappings[i].address, __ATOMIC_ACQUIRE);
    if (start < 4096 || address < start || address >= start + mappings[i].bytes) continue;
    *found = mappings[i];
    found->address = start;
    if (take && start == address)
      __atomic_compare_exchange_n(&mappings[i].address, &start, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    return true;
  }
  return false;
}

EXPORT void *mmap(void *p, size_t n, int protection, int flags, int fd, off_t at) {
  struct call call;
  if (LIKELY(flags & MAP_ANONYMOUS) || fd < 0 || !begin_call(&call, fd)) return real_mmap(p, n, protection, flags, fd, at);
  void *result = real_mmap(p, n, protection, flags, fd, at);
  if (result != MAP_FAILED && uring_was_mapped(call.description, result, (uint64_t)at)) {
    abandon_call(&call);
    return result;
  }
  uint64_t end_ns = now_ns();
  bool failed = result == MAP_FAILED;
  uint32_t bits = call.flags;
  if ((flags & MAP_TYPE) != MAP_PRIVATE) bits |= TRACE_FLAG_SHARED_MAPPING;
  if (protection & PROT_WRITE) bits |= TRACE_FLAG_WRITABLE_MAPPING;
  if (!failed && call.id) remember_mapping((uint64_t)result, n, (uint64_t)at, call.id, bits);
  finish_call(&call, end_ns, TRACE_OP_MAP, (uint64_t)at, n, failed ? -(int64_t)errno : 0, bits, TRACE_NO_DESCRIPTION);
  return result;
}
extern __typeof(mmap) mmap64 ALIAS("mmap");
extern void *__mmap(void *, size_t, int, int, int, off_t) __attribute__((nothrow, leaf)) ALIAS("mmap");

EXPORT int munmap(void *p, size_t n) {
  struct call call;
  struct mapping mapping;
  if (UNLIKELY(urings_in_use)) uring_is_unmapped(p);
  if (LIKELY(!__atomic_load_n(&mappings_used, __ATOMIC_RELAXED)) || !recording() ||
      !find_mapping((uint64_t)p, true, &mapping) || !begin_named_call(&call))
    return real_munmap(p, n);
  int result = real_munmap(p, n);
  call.id = mapping.id;
  call.flags = mapping.flags;
  finish_plain(&call, TRACE_OP_UNMAP, mapping.offset + ((uint64_t)p - mapping.address), n, result);
  return result;
}
extern int __munmap(void *, size_t) __attribute__((nothrow, leaf)) ALIAS("munmap");

EXPORT int msync(void *p, size_t n, int flags) {
  struct call call;
  struct mapping mapping;
  if (!recording() || !find_mapping((uint64_t)p, false, &mapping) || !begin_named_call(&call)) return real_msync(p, n, flags);
  int result = real_msync(p, n, flags);
  call.id = mapping.id;
  call.flags = mapping.flags;
  finish_plain(&call, TRACE_OP_MSYNC, mapping.offset + ((uint64_t)p - mapping.address), n, result);
  return result;
}
