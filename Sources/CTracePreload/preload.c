// Attaching a process to the session of its recorder, threads to their rings, and a forked child to rings of its own.
#include "preload.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/resource.h>

EXPORT int trace_preload_version = TRACE_RING_VERSION;

static struct trace_session detached;
struct trace_session *session = &detached;
static uint32_t always_same = 1;
uint32_t *same_process = &always_same;
__thread struct thread_state me;

#define MAX_RING_SLOTS 4096u
/// The rings of this process, and the thread that has each (0: free). A ring is never unmapped but by a forked child.
static struct trace_ring *rings[MAX_RING_SLOTS];
static int32_t ring_owner[MAX_RING_SLOTS];
static uint32_t ring_slots_used;

static char run_folder[256];
static pthread_key_t thread_end_key;
static bool thread_end_key_made;

// ---- The libc functions behind the wrappers -------------------------------------------------------------------------

static void resolve_all(void);

// Until the constructor ran, the first call of a wrapper resolves everything.
#define DEFINE_REAL(type, name, parameters, arguments)   \
  static type first_##name parameters {                  \
    resolve_all();                                       \
    return real_##name arguments;                        \
  }                                                      \
  type(*real_##name) parameters = first_##name;
REAL_FUNCTIONS(DEFINE_REAL)

static int raw_clock_gettime(clockid_t clock, struct timespec *time) { return (int)RAW(SYS_clock_gettime, clock, time); }
int (*real_clock_gettime)(clockid_t, struct timespec *) = raw_clock_gettime;
static long with_errno(long result) {
  if (result >= 0 || result <= -4096) return result;
  errno = (int)-result;
  return -1;
}
static long raw_syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  return with_errno(RAW(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}
long (*real_syscall)(long, ...) = raw_syscall;
#define DEFINE_EARLY(type, name, parameters, numbers)                                     \
  static type raw_##name parameters { return (type)with_errno(RAW numbers); }             \
  type(*real_##name) parameters = raw_##name;
EARLY_FUNCTIONS(DEFINE_EARLY)
static void raw_exit(int status) {
  for (;;) RAW(SYS_exit_group, status);
}
void (*real__exit)(int) = raw_exit;
static void raw_closefrom(int first) { RAW(SYS_close_range, first, ~0u, 0); }
void (*real_closefrom)(int) = raw_closefrom;

/// Stands for a function that this libc does not have.
static long missing_function(void) {
  errno = ENOSYS;
  return -1;
}

static void resolve_all(void) {
  void *found;
#define RESOLVE(type, name, parameters, arguments) \
  found = dlsym(RTLD_NEXT, #name);                 \
  real_##name = (type(*) parameters)(found ? found : (void *)missing_function);
  REAL_FUNCTIONS(RESOLVE)
#define RESOLVE_EARLY(type, name, parameters, numbers) \
  if ((found = dlsym(RTLD_NEXT, #name))) real_##name = (type(*) parameters)found;
  EARLY_FUNCTIONS(RESOLVE_EARLY)
  if ((found = dlsym(RTLD_NEXT, "syscall"))) real_syscall = (long (*)(long, ...))found;
  if ((found = dlsym(RTLD_NEXT, "_exit"))) real__exit = (void (*)(int))found;
  if ((found = dlsym(RTLD_NEXT, "closefrom"))) real_closefrom = (void (*)(int))found;
  // libc's own clock, whatever a library that fakes the time exports.
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  if ((found = dlsym(libc ? libc : RTLD_NEXT, "clock_gettime")))
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))found;
}

// ---- Rings ------------------------------------------------------------------------------------------------------------

char *append_text(char *at, const char *text) {
  while (*text) *at++ = *text++;
  return at;
}

char *append_number(char *at, uint32_t number) {
  char digits[10];
  int count = 0;
  do digits[count++] = (char)('0' + number % 10);
  while (number /= 10);
  while (count) *at++ = digits[--count];
  return at;
}

static uint32_t in_foreign_namespace(void) {
  struct stat status;
  return RAW(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/pid", &status, 0) == 0 && status.st_ino != session->process_namespace;
}

/// Slots that a new ring has memory for; a thread with little I/O needs no more.
#define FIRST_SLOTS 1024u
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static char *ring_path(char *path, uint32_t number) {
  *append_number(append_text(append_text(path, run_folder), "/ring."), number) = 0;
  return path;
}

/// Gives memory to the ring's slots up to `end`, and some more; false when there is none. Writing a page that a full filesystem
/// can't back would kill the program by SIGBUS.
static bool allocate_slots(struct trace_ring *ring, uint64_t end) {
  uint64_t slots = ring->allocated;
  while (slots < end && slots < ring->record_count) slots *= 4;
  if (slots > ring->record_count) slots = ring->record_count;
  uint64_t from = TRACE_RING_HEADER_BYTES + ring->allocated * sizeof(struct trace_record);
  uint64_t bytes = (slots - ring->allocated) * sizeof(struct trace_record);
  if (RAW(SYS_madvise, (char *)ring + from, bytes, MADV_POPULATE_WRITE) != 0) {
    // Kernels before 5.14 don't know it.
    char path[sizeof run_folder + 32];
    int fd = (int)RAW(SYS_openat, AT_FDCWD, ring_path(path, ring->number), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return false;
    long code = RAW(SYS_fallocate, fd, 0, from, bytes);
    RAW(SYS_close, fd);
    if (code != 0) return false;
  }
  if (ring->allocated < slots) ring->allocated = slots;
  return true;
}

COLD bool extend_limit(struct trace_ring *ring, uint64_t end, uint32_t usable) {
  uint64_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
  uint32_t count = ring->record_count;
  if (end - tail > usable) return false;
  if (ring->allocated < count && end > ring->allocated && !allocate_slots(ring, end)) return false;
  uint64_t limit = tail + count - trace_ring_headroom(count);
  if (ring->allocated < count && limit > ring->allocated) limit = ring->allocated;
  if (limit > ring->limit) ring->limit = limit;
  return true;
}

static struct trace_ring *map_new_ring(void) {
  uint32_t count = session->record_count;
  uint64_t bytes = TRACE_RING_HEADER_BYTES + (uint64_t)count * sizeof(struct trace_record);
  struct rlimit limit;
  // Past this limit fallocate would send the program SIGXFSZ.
  if (RAW(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, &limit) != 0 || limit.rlim_cur < bytes) return NULL;
  uint32_t number = __atomic_fetch_add(&session->next_ring, 1, __ATOMIC_ACQ_REL);
  char path[sizeof run_folder + 32];
  ring_path(path, number);
  int fd = (int)RAW(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return NULL;
  uint64_t first_slots = count < FIRST_SLOTS ? count : FIRST_SLOTS;
  long mapped = RAW(SYS_fallocate, fd, 0, 0, TRACE_RING_HEADER_BYTES + first_slots * sizeof(struct trace_record));
  if (mapped == 0) mapped = RAW(SYS_ftruncate, fd, bytes);
  if (mapped == 0) mapped = RAW(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  else RAW(SYS_unlinkat, AT_FDCWD, path, 0);
  RAW(SYS_close, fd);
  if (mapped < 0 && mapped > -4096) return NULL;
  struct trace_ring *ring = (struct trace_ring *)mapped;
  ring->version = TRACE_RING_VERSION;
  ring->number = number;
  ring->record_count = count;
  ring->allocated = first_slots;
  ring->process_id = (int32_t)RAW(SYS_getpid);
  ring->thread_id = me.thread_id;
  ring->foreign_processes = in_foreign_namespace();
  __atomic_store_n(&ring->magic, TRACE_RING_MAGIC, __ATOMIC_RELEASE);
  return ring;
}

static struct trace_ring *claim_free_ring(void) {
  uint32_t used = __atomic_load_n(&ring_slots_used, __ATOMIC_ACQUIRE);
  for (uint32_t i = 0; i < used && i < MAX_RING_SLOTS; i++) {
    int32_t free_owner = 0;
    if (!__atomic_load_n(&rings[i], __ATOMIC_ACQUIRE) || __atomic_load_n(&ring_owner[i], __ATOMIC_RELAXED)) continue;
    if (!__atomic_compare_exchange_n(&ring_owner[i], &free_owner, me.thread_id, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
      continue;
    me.slot = i + 1;
    rings[i]->thread_id = me.thread_id;
    return rings[i];
  }
  return NULL;
}

static struct trace_ring *claim_new_ring(void) {
  struct trace_ring *ring = map_new_ring();
  if (!ring) return NULL;
  uint32_t slot = __atomic_fetch_add(&ring_slots_used, 1, __ATOMIC_ACQ_REL);
  me.slot = slot + 1;
  if (slot < MAX_RING_SLOTS) {
    __atomic_store_n(&ring_owner[slot], me.thread_id, __ATOMIC_RELAXED);
    __atomic_store_n(&rings[slot], ring, __ATOMIC_RELEASE);
  }
  return ring;
}

static void count_without_ring(void) {
  uint64_t time = now_ns(), none = 0;
  __atomic_fetch_add(&session->calls_without_ring, 1, __ATOMIC_RELAXED);
  __atomic_compare_exchange_n(&session->without_ring_first_ns, &none, time, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  __atomic_store_n(&session->without_ring_last_ns, time, __ATOMIC_RELAXED);
}

COLD struct trace_ring *acquire_ring(void) {
  // After a failure only every 1024th call tries again.
  if (me.skipped_calls && me.skipped_calls++ % 1024) {
    count_without_ring();
    return NULL;
  }
  me.busy = 1;
  me.thread_id = (int32_t)RAW(SYS_gettid);
  struct trace_ring *ring = claim_free_ring();
  if (!ring) ring = claim_new_ring();
  if (ring) {
    if (thread_end_key_made) pthread_setspecific(thread_end_key, ring);
    me.skipped_calls = 0;
  } else {
    if (!me.skipped_calls) __atomic_fetch_add(&session->threads_without_ring, 1, __ATOMIC_RELAXED);
    me.skipped_calls++;
    count_without_ring();
  }
  me.frame = NULL;
  me.ring = ring;
  me.busy = 0;
  return ring;
}

/// The thread ends: its ring is free for the next one. Later destructors' calls make it take one again, and come back here.
static void release_ring(void *value) {
  struct trace_ring *ring = value;
  if (me.ring != ring) return;
  __atomic_store_n(&ring->in_flight_ns, 0, __ATOMIC_RELEASE);
  ring->thread_id = 0;
  me.ring = NULL;
  if (me.slot && me.slot <= MAX_RING_SLOTS) __atomic_store_n(&ring_owner[me.slot - 1], 0, __ATOMIC_RELEASE);
  me.slot = 0;
}

// ---- A full ring --------------------------------------------------------------------------------------------------------

/// True when nobody holds the lock that the collector holds as long as it lives.
static bool collector_is_dead(void) {
  char path[sizeof run_folder + 32];
  *append_text(append_text(path, run_folder), "/lock") = 0;
  int fd = (int)RAW(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fd == -ENOENT;
  bool dead = RAW(SYS_flock, fd, LOCK_SH | LOCK_NB) == 0;
  RAW(SYS_close, fd);
  return dead;
}

static void sleep_ns(long time_ns) {
  struct timespec time = {0, time_ns};
  RAW(SYS_nanosleep, &time, 0);
}

/// Waits for the collector to make room; false when it is dead, or has not moved for ten seconds.
static bool wait_for_room(struct trace_ring *ring) {
  uint64_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
  for (uint32_t round = 0; round < 200000; round++) {
    if (__atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) != tail) return true;
    if (!__atomic_load_n(&session->active, __ATOMIC_RELAXED)) return false;
    sleep_ns(50000);
    if (round % 512 == 511 && collector_is_dead()) {
      __atomic_store_n(&session->active, 0, __ATOMIC_RELAXED);
      return false;
    }
  }
  return false;
}

COLD bool ring_is_full(struct trace_ring *ring, uint64_t start_ns, bool definition) {
  if (session->on_full == TRACE_ON_FULL_WAIT && wait_for_room(ring)) return true;
  if (definition) return false;
  if (ring->dropped == __atomic_load_n(&ring->dropped_seen, __ATOMIC_RELAXED)) ring->drop_first_ns = start_ns;
  ring->drop_last_ns = start_ns;
  uint64_t dropped = ring->dropped + 1;
  __atomic_store_n(&ring->dropped, dropped, __ATOMIC_RELEASE);
  // A ring stays full for ever when the recorder was killed: give the program its speed back.
  if (dropped % 65536 == 0 && collector_is_dead()) __atomic_store_n(&session->active, 0, __ATOMIC_RELAXED);
  return false;
}

// ---- Requests that complete later ---------------------------------------------------------------------------------------

/// Publishes a record outside of a call. A completion may use the room that definitions have: half a request is of less use than
/// none.
static void publish_record(struct trace_record *record) {
  struct trace_ring *ring = me.ring;
  uint32_t count = ring->record_count;
  bool whole = record->phase != TRACE_PHASE_SUBMISSION;
  uint64_t number;
  while ((number = reserve_slots(ring, 1, whole ? count : count - trace_ring_headroom(count))) == UINT64_MAX)
    if (!ring_is_full(ring, record->start_ns, false)) return;
  record->thread_id = me.thread_id;
  struct trace_record *slot = ring_slot(ring, number);
  memcpy((char *)slot + sizeof slot->sequence, (char *)record + sizeof slot->sequence, sizeof *slot - sizeof slot->sequence);
  publish_slot(slot, number);
}

void publish_submission(const struct request *request, uint64_t start_ns) {
  publish_record(&(struct trace_record){
    .start_ns = start_ns, .latency_ns = request->key, .offset = request->offset, .size = request->size,
    .result = (int64_t)request->context, .description = request->id, .other_description = request->other, .flags = request->flags,
    .operation = request->operation, .phase = TRACE_PHASE_SUBMISSION});
}

void publish_completion(uint64_t context, uint64_t key, int64_t result, uint64_t seen_ns, uint32_t flags) {
  publish_record(&(struct trace_record){
    .start_ns = seen_ns, .latency_ns = key, .offset = context, .result = result, .flags = flags, .phase = TRACE_PHASE_COMPLETION});
}

void publish_withdrawal(uint64_t context, uint64_t key) {
  publish_record(
    &(struct trace_record){.start_ns = now_ns(), .latency_ns = key, .offset = context, .phase = TRACE_PHASE_WITHDRAWAL});
}

void *find_function(const char *name, const char *library) {
  void *found = dlsym(RTLD_NEXT, name);
  if (found) return found;
  // A library that came by dlopen is out of sight of the search above.
  void *loaded = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  return loaded ? dlsym(loaded, name) : NULL;
}

// ---- Fork ---------------------------------------------------------------------------------------------------------------

COLD void after_fork_in_child(void) {
  *same_process = 1;
  uint32_t used = ring_slots_used < MAX_RING_SLOTS ? ring_slots_used : MAX_RING_SLOTS;
  for (uint32_t i = 0; i < used; i++) {
    if (!rings[i]) continue;
    uint64_t bytes = TRACE_RING_HEADER_BYTES + (uint64_t)rings[i]->record_count * sizeof(struct trace_record);
    RAW(SYS_munmap, rings[i], bytes);
    rings[i] = NULL;
    ring_owner[i] = 0;
  }
  ring_slots_used = 0;
  me = (struct thread_state){0};
  if (thread_end_key_made) pthread_setspecific(thread_end_key, NULL);
  process_generation++;
  forget_urings();
  __atomic_fetch_add(&session->processes_attached, 1, __ATOMIC_RELAXED);
}

static void before_fork(void) { process_generation++; }
static void fork_in_child(void) {
  if (session->active && !me.in_vfork) after_fork_in_child();
}

EXPORT pid_t _Fork(void) {
  process_generation++;
  return real__Fork();
}

// ---- The session --------------------------------------------------------------------------------------------------------

static bool map_session(void) {
  char path[sizeof run_folder + 32];
  *append_text(append_text(path, run_folder), "/session") = 0;
  int fd = (int)RAW(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  struct stat status;
  long mapped = -1;
  if (RAW(SYS_fstat, fd, &status) == 0 && (uint64_t)status.st_size >= sizeof(struct trace_session))
    mapped = RAW(SYS_mmap, 0, sizeof(struct trace_session), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  RAW(SYS_close, fd);
  if (mapped < 0 && mapped > -4096) return false;
  struct trace_session *found = (struct trace_session *)mapped;
  if (found->magic != TRACE_SESSION_MAGIC || found->version != TRACE_RING_VERSION || !found->active) {
    RAW(SYS_munmap, mapped, sizeof(struct trace_session));
    return false;
  }
  session = found;
  return true;
}

static void watch_forks(void) {
  long page = RAW(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page > 0 && RAW(SYS_madvise, page, 4096, MADV_WIPEONFORK) == 0) {
    *(uint32_t *)page = 1;
    same_process = (uint32_t *)page;
  }
  pthread_atfork(before_fork, NULL, fork_in_child);
}

static const char *run_folder_from_environment(void) {
  const char *name = TRACE_RUN_VARIABLE;
  size_t length = strlen(name);
  for (char **entry = environ; entry && *entry; entry++)
    if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') return *entry + length + 1;
  return NULL;
}

__attribute__((constructor(101))) static void attach(void) {
  int saved = errno;
  resolve_all();
  const char *folder = run_folder_from_environment();
  if (folder && folder[0] == '/' && strlen(folder) < sizeof run_folder) {
    strcpy(run_folder, folder);
    me.busy = 1;
    thread_end_key_made = pthread_key_create(&thread_end_key, release_ring) == 0;
    if (descriptions_prepare() && map_session()) {
      watch_forks();
      attach_session();
      record_numbers();
      announce_inherited_files();
      streams_prepare();
      __atomic_fetch_add(&session->processes_attached, 1, __ATOMIC_RELAXED);
    }
    me.busy = 0;
  }
  errno = saved;
}

__attribute__((destructor(101))) static void process_ends(void) {
  flush_streams_at_exit();
  account_urings_at_exit();
  __atomic_fetch_add(&session->processes_ending, 1, __ATOMIC_RELAXED);
}

EXPORT void _exit(int status) {
  if (!me.in_vfork) {
    account_urings_at_exit();
    __atomic_fetch_add(&session->processes_ending, 1, __ATOMIC_RELAXED);
  }
  for (;;) real__exit(status);
}
extern __typeof(_exit) _Exit ALIAS("_exit");
