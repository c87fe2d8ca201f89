// Inside the preload recorder: the state of a process and a thread, and the path that every recorded call takes.
//
// The rules of this library: the program's own calls go to the libc functions that it meant (so that cancellation and other
// preloaded libraries keep working), the recorder's own calls are raw system calls that leave errno alone, nothing allocates
// with malloc, and nothing takes a lock, because a signal handler may enter at any instruction.
#ifndef PRELOAD_H
#define PRELOAD_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FORTIFY_SOURCE
// No inline bodies of getc and its relatives in the headers: they are exported here.
#define __NO_INLINE__ 1
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "trace_ring.h"

_Static_assert(sizeof(off_t) == 8 && sizeof(long) == 8, "the 64 spellings are aliases of the plain ones");

#define EXPORT __attribute__((visibility("default")))
#define ALIAS(name) __attribute__((visibility("default"), alias(name)))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COLD __attribute__((noinline, cold))

// Raw system calls: the result, or -errno; errno stays as it is.
static inline long raw_call(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#else
#error "the preload recorder knows the system calls of x86-64 and aarch64"
#endif
}
#define RAW_ARGUMENTS(n, a, b, c, d, e, f, ...) (n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)
#define RAW(...) raw_call(RAW_ARGUMENTS(__VA_ARGS__, 0, 0, 0, 0, 0, 0))

char *append_text(char *at, const char *text);
char *append_number(char *at, uint32_t number);

// ---- The functions that are wrapped -------------------------------------------------------------------------------

#define REAL_FUNCTIONS(X)                                                                                            \
  X(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))                                                   \
  X(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))                                           \
  X(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))                                    \
  X(ssize_t, __read_chk, (int fd, void *p, size_t n, size_t room), (fd, p, n, room))                                 \
  X(ssize_t, __pread_chk, (int fd, void *p, size_t n, off_t at, size_t room), (fd, p, n, at, room))                  \
  X(ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n))                                              \
  X(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))                                             \
  X(ssize_t, preadv, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))                               \
  X(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))                              \
  X(ssize_t, preadv2, (int fd, const struct iovec *v, int n, off_t at, int flags), (fd, v, n, at, flags))            \
  X(ssize_t, pwritev2, (int fd, const struct iovec *v, int n, off_t at, int flags), (fd, v, n, at, flags))           \
  X(ssize_t, sendfile, (int out, int in, off_t *at, size_t n), (out, in, at, n))                                     \
  X(ssize_t, copy_file_range, (int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags),               \
    (in, from, out, to, n, flags))                                                                                   \
  X(ssize_t, splice, (int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags),                        \
    (in, from, out, to, n, flags))                                                                                   \
  X(ssize_t, tee, (int in, int out, size_t n, unsigned flags), (in, out, n, flags))                                     \
  X(ssize_t, vmsplice, (int fd, const struct iovec *v, size_t n, unsigned flags), (fd, v, n, flags))                    \
  X(ssize_t, send, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))                                     \
  X(ssize_t, sendto, (int fd, const void *p, size_t n, int flags, const struct sockaddr *address, socklen_t bytes), (fd, p, n, flags, address, bytes)) \
  X(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))                                      \
  X(int, sendmmsg, (int fd, struct mmsghdr *m, unsigned n, int flags), (fd, m, n, flags))                               \
  X(ssize_t, recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))                                           \
  X(ssize_t, __recv_chk, (int fd, void *p, size_t n, size_t room, int flags), (fd, p, n, room, flags))                  \
  X(ssize_t, recvfrom, (int fd, void *p, size_t n, int flags, struct sockaddr *address, socklen_t *bytes), (fd, p, n, flags, address, bytes)) \
  X(ssize_t, __recvfrom_chk, (int fd, void *p, size_t n, size_t room, int flags, struct sockaddr *address, socklen_t *bytes), (fd, p, n, room, flags, address, bytes)) \
  X(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))                                            \
  X(int, recvmmsg, (int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *timeout), (fd, m, n, flags, timeout)) \
  X(int, connect, (int fd, const struct sockaddr *address, socklen_t bytes), (fd, address, bytes))                      \
  X(int, accept, (int fd, struct sockaddr *address, socklen_t *bytes), (fd, address, bytes))                            \
  X(int, accept4, (int fd, struct sockaddr *address, socklen_t *bytes, int flags), (fd, address, bytes, flags))         \
  X(int, fsync, (int fd), (fd))                                                                                      \
  X(int, fdatasync, (int fd), (fd))                                                                                  \
  X(int, sync_file_range, (int fd, off64_t at, off64_t n, unsigned flags), (fd, at, n, flags))                       \
  X(int, msync, (void *p, size_t n, int flags), (p, n, flags))                                                       \
  X(int, ftruncate, (int fd, off_t n), (fd, n))                                                                      \
  X(int, truncate, (const char *path, off_t n), (path, n))                                                           \
  X(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))                                        \
  X(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n))                                                  \
  X(off_t, lseek, (int fd, off_t at, int whence), (fd, at, whence))                                                  \
  X(int, __open_2, (const char *path, int flags), (path, flags))                                                     \
  X(int, __openat_2, (int folder, const char *path, int flags), (folder, path, flags))                               \
  X(int, creat, (const char *path, mode_t mode), (path, mode))                                                       \
  X(int, mkstemp, (char *path), (path))                                                                              \
  X(int, mkostemp, (char *path, int flags), (path, flags))                                                           \
  X(int, mkstemps, (char *path, int suffix), (path, suffix))                                                         \
  X(int, mkostemps, (char *path, int suffix, int flags), (path, suffix, flags))                                      \
  X(int, memfd_create, (const char *name, unsigned flags), (name, flags))                                            \
  X(int, close_range, (unsigned first, unsigned last, int flags), (first, last, flags))                              \
  X(int, dup, (int fd), (fd))                                                                                        \
  X(int, dup2, (int fd, int to), (fd, to))                                                                           \
  X(int, dup3, (int fd, int to, int flags), (fd, to, flags))                                                         \
  X(int, fcntl, (int fd, int command, void *argument), (fd, command, argument))                                      \
  X(int, rename, (const char *from, const char *to), (from, to))                                                     \
  X(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))                               \
  X(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))       \
  X(int, unlink, (const char *path), (path))                                                                         \
  X(int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags))                                 \
  X(int, remove, (const char *path), (path))                                                                         \
  X(int, link, (const char *from, const char *to), (from, to))                                                       \
  X(int, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))               \
  X(int, aio_read, (struct aiocb *request), (request))                                                                 \
  X(int, aio_write, (struct aiocb *request), (request))                                                                \
  X(int, aio_fsync, (int operation, struct aiocb *request), (operation, request))                                      \
  X(int, aio_error, (const struct aiocb *request), (request))                                                          \
  X(ssize_t, aio_return, (struct aiocb *request), (request))                                                           \
  X(int, aio_suspend, (const struct aiocb *const *list, int n, const struct timespec *timeout), (list, n, timeout))    \
  X(int, lio_listio, (int mode, struct aiocb *const *list, int n, struct sigevent *event), (mode, list, n, event))     \
  X(FILE *, fopen, (const char *path, const char *mode), (path, mode))                                                  \
  X(FILE *, fdopen, (int fd, const char *mode), (fd, mode))                                                             \
  X(FILE *, freopen, (const char *path, const char *mode, FILE *stream), (path, mode, stream))                          \
  X(FILE *, popen, (const char *command, const char *mode), (command, mode))                                            \
  X(FILE *, tmpfile, (void), ())                                                                                        \
  X(int, fclose, (FILE *stream), (stream))                                                                              \
  X(int, pclose, (FILE *stream), (stream))                                                                              \
  X(int, fcloseall, (void), ())                                                                                         \
  X(int, fflush, (FILE *stream), (stream))                                                                              \
  X(int, fflush_unlocked, (FILE *stream), (stream))                                                                     \
  X(int, fseek, (FILE *stream, long at, int whence), (stream, at, whence))                                              \
  X(int, fseeko, (FILE *stream, off_t at, int whence), (stream, at, whence))                                            \
  X(void, rewind, (FILE *stream), (stream))                                                                             \
  X(int, fsetpos, (FILE *stream, const fpos_t *at), (stream, at))                                                       \
  X(size_t, fread, (void *p, size_t size, size_t n, FILE *stream), (p, size, n, stream))                                \
  X(size_t, fread_unlocked, (void *p, size_t size, size_t n, FILE *stream), (p, size, n, stream))                       \
  X(size_t, __fread_chk, (void *p, size_t room, size_t size, size_t n, FILE *stream), (p, room, size, n, stream))       \
  X(size_t, __fread_unlocked_chk, (void *p, size_t room, size_t size, size_t n, FILE *stream), (p, room, size, n, stream)) \
  X(char *, fgets, (char *p, int n, FILE *stream), (p, n, stream))                                                      \
  X(char *, fgets_unlocked, (char *p, int n, FILE *stream), (p, n, stream))                                             \
  X(char *, __fgets_chk, (char *p, size_t room, int n, FILE *stream), (p, room, n, stream))                             \
  X(char *, __fgets_unlocked_chk, (char *p, size_t room, int n, FILE *stream), (p, room, n, stream))                    \
  X(int, getc, (FILE *stream), (stream))                                                                                \
  X(int, getc_unlocked, (FILE *stream), (stream))                                                                       \
  X(int, __uflow, (FILE *stream), (stream))                                                                             \
  X(int, __underflow, (FILE *stream), (stream))                                                                         \
  X(ssize_t, getdelim, (char **line, size_t *room, int delimiter, FILE *stream), (line, room, delimiter, stream))       \
  X(int, vfscanf, (FILE *stream, const char *format, va_list list), (stream, format, list))                             \
  X(int, __isoc99_vfscanf, (FILE *stream, const char *format, va_list list), (stream, format, list))                    \
  X(size_t, fwrite, (const void *p, size_t size, size_t n, FILE *stream), (p, size, n, stream))                         \
  X(size_t, fwrite_unlocked, (const void *p, size_t size, size_t n, FILE *stream), (p, size, n, stream))                \
  X(int, fputs, (const char *text, FILE *stream), (text, stream))                                                       \
  X(int, fputs_unlocked, (const char *text, FILE *stream), (text, stream))                                              \
  X(int, puts, (const char *text), (text))                                                                              \
  X(int, putc, (int c, FILE *stream), (c, stream))                                                                      \
  X(int, putc_unlocked, (int c, FILE *stream), (c, stream))                                                             \
  X(int, __overflow, (FILE *stream, int c), (stream, c))                                                                \
  X(int, vfprintf, (FILE *stream, const char *format, va_list list), (stream, format, list))                            \
  X(int, __vfprintf_chk, (FILE *stream, int flag, const char *format, va_list list), (stream, flag, format, list))      \
  X(int, vdprintf, (int fd, const char *format, va_list list), (fd, format, list))                                      \
  X(int, __vdprintf_chk, (int fd, int flag, const char *format, va_list list), (fd, flag, format, list))                \
  X(int, closedir, (void *stream), (stream))                                                                         \
  X(int, daemon, (int nochdir, int noclose), (nochdir, noclose))                                                     \
  X(int, execve, (const char *path, char *const *argv, char *const *env), (path, argv, env))                         \
  X(int, execvpe, (const char *file, char *const *argv, char *const *env), (file, argv, env))                        \
  X(int, fexecve, (int fd, char *const *argv, char *const *env), (fd, argv, env))                                    \
  X(int, execveat, (int folder, const char *path, char *const *argv, char *const *env, int flags),                   \
    (folder, path, argv, env, flags))                                                                                \
  X(int, posix_spawn, (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,                      \
    const posix_spawnattr_t *attributes, char *const *argv, char *const *env), (pid, path, actions, attributes, argv, env)) \
  X(int, posix_spawnp, (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,                     \
    const posix_spawnattr_t *attributes, char *const *argv, char *const *env), (pid, path, actions, attributes, argv, env)) \
  X(pid_t, fork, (void), ())                                                                                         \
  X(pid_t, _Fork, (void), ())

/// Those that an allocator calls while it begins. It must not be entered again then, as dlsym and dlopen may do, so until libc's
/// functions have been looked up these are system calls.
#define EARLY_FUNCTIONS(X)                                                                                             \
  X(ssize_t, read, (int fd, void *p, size_t n), (SYS_read, fd, p, n))                                                  \
  X(int, open, (const char *path, int flags, mode_t mode), (SYS_openat, AT_FDCWD, path, flags, mode))                  \
  X(int, openat, (int folder, const char *path, int flags, mode_t mode), (SYS_openat, folder, path, flags, mode))      \
  X(int, close, (int fd), (SYS_close, fd))                                                                             \
  X(void *, mmap, (void *p, size_t n, int protection, int flags, int fd, off_t at),                                    \
    (SYS_mmap, p, n, protection, flags, fd, at))                                                                       \
  X(int, munmap, (void *p, size_t n), (SYS_munmap, p, n))

#define DECLARE_REAL(type, name, parameters, arguments) extern type(*real_##name) parameters;
REAL_FUNCTIONS(DECLARE_REAL)
EARLY_FUNCTIONS(DECLARE_REAL)
#undef DECLARE_REAL
extern void (*real__exit)(int status);
extern void (*real_closefrom)(int first);
extern long (*real_syscall)(long number, ...);
extern int (*real_clock_gettime)(clockid_t clock, struct timespec *time);

struct thread_state {
  struct trace_ring *ring;
  /// Number of the thread's slot + 1 in this process; 0 without a ring.
  uint32_t slot;
  int32_t thread_id;
  /// Non-zero: calls pass through unrecorded. A vfork child shares memory and must not touch it; slow paths guard themselves.
  uint32_t in_vfork;
  uint32_t busy;
  /// Frame of the outermost call in flight; an older frame that begins a call says that it was left by longjmp.
  void *frame;
  uint32_t skipped_calls;
  /// Non-zero inside libaio, which makes its system calls by number.
  uint32_t in_library;
};
extern __thread struct thread_state me __attribute__((tls_model("initial-exec")));

struct call;

// ---- Descriptions -------------------------------------------------------------------------------------------------

/// An open file description as far as this process knows it. A cache line each; never unmapped, reused after the last close.
struct description {
  uint32_t id;
  /// TRACE_FLAG_… that every call through it carries.
  uint32_t flags;
  uint64_t position;
  /// Values of `process_generation` and of the session's share epoch at which it was known to be private.
  uint32_t private_generation, private_epoch;
  /// Slot of the thread that made the last call at the position; another thread's call in between makes an offset uncertain.
  uint32_t owner;
  /// Descriptors that stand for it.
  uint32_t references;
  uint64_t device, inode;
  uint8_t kind;
  bool seekable;
  /// The collector can know it: its definition was published.
  bool defined;
  uint32_t next_free;
  /// Number of the ring of io_uring that it is, or 0.
  uint32_t uring;
  uint32_t reserved;
};
_Static_assert(sizeof(struct description) == 64, "a cache line");

#define MAX_DESCRIPTORS (1u << 20)
#define MAX_DESCRIPTIONS (1u << 18)
/// By descriptor: index of its description, 0 when not known.
extern uint32_t *descriptor_table;
extern struct description *descriptions;
/// Raised by every fork: what was private before is shared from then on.
extern uint32_t process_generation;

bool descriptions_prepare(void);
/// The description of a descriptor that was not seen opening; NULL when the descriptor is not open or there is no room.
struct description *describe_unknown(int fd);
/// Registers a descriptor that an open call just gave. `flags` are open's.
struct description *describe_opened(int fd, int flags);
/// `fd` stands for the same description as `source` (which may be NULL).
void share_descriptor(int fd, struct description *source);
/// Forgets the descriptor; call before it is closed, because another thread may get the number right after.
void forget_descriptor(int fd);
/// Publishes the definition (again, when there was no room before).
void publish_definition(struct description *description, int fd);
/// A definition of the peer of a socket; returns its number.
uint32_t define_peer(const char *name, uint32_t length);
/// The same of an address that the socket `fd` is to be connected with; 0 for one without a name.
uint32_t define_peer_address(int fd, const void *address, uint32_t bytes);
/// Writes the name of a socket's peer, or of a socket without one by its own address, to `out` (256 bytes); the length, 0 for
/// one without a name.
uint32_t name_socket(int fd, char *out);
/// A definition of a name without a descriptor (of a failed open, a rename): returns its number.
uint32_t define_name(int folder, const char *path, const struct statx *status);
void mark_shared(struct description *description);
/// Announces the regular files that this process got from exec.
void announce_inherited_files(void);
uint32_t description_flags(int open_flags);
/// Publishes an open call; `call->flags` are added to those of open's `flags`.
uint32_t open_event_flags(int flags);
uint8_t allocate_operation(int mode);
void finish_open(struct call *call, int folder, const char *path, int flags, int fd);
int open_by_number(int folder, const char *path, const struct open_how *how, size_t bytes);
/// True when the position can no longer be followed in memory alone.
bool position_is_shared(struct description *description);
/// The offset of a finished call at the position of a shared description or in append mode; may add INFERRED to flags.
uint64_t offset_from_kernel(struct description *description, int fd, int64_t moved, uint32_t *flags);

static inline struct description *description_of(int fd) {
  if (UNLIKELY((unsigned)fd >= MAX_DESCRIPTORS)) return NULL;
  uint32_t index = __atomic_load_n(&descriptor_table[fd], __ATOMIC_ACQUIRE);
  if (UNLIKELY(!index)) return describe_unknown(fd);
  struct description *description = &descriptions[index];
  if (UNLIKELY(!description->defined)) publish_definition(description, fd);
  return description;
}

/// The description of a descriptor that is known already, or NULL.
static inline struct description *known_description(int fd) {
  if ((unsigned)fd >= MAX_DESCRIPTORS || !descriptions || me.in_vfork) return NULL;
  uint32_t index = __atomic_load_n(&descriptor_table[fd], __ATOMIC_ACQUIRE);
  return index ? &descriptions[index] : NULL;
}

/// Trace flags of the RWF_ flags of one request.
static inline uint32_t flags_of_request(int flags) {
  uint32_t bits = 0;
  if (flags & RWF_HIPRI) bits |= TRACE_FLAG_HIGH_PRIORITY;
  if (flags & RWF_DSYNC) bits |= TRACE_FLAG_REQUEST_DATA_SYNC;
  if (flags & RWF_SYNC) bits |= TRACE_FLAG_REQUEST_SYNC;
  if (flags & RWF_NOWAIT) bits |= TRACE_FLAG_NO_WAIT;
  if (flags & RWF_APPEND) bits |= TRACE_FLAG_APPEND;
  return bits;
}

// ---- Threads and rings --------------------------------------------------------------------------------------------

extern struct trace_session *session;
/// 1, and 0 in a forked child, however it was forked: the page is wiped by the kernel (MADV_WIPEONFORK).
extern uint32_t *same_process;

struct trace_ring *acquire_ring(void);
void after_fork_in_child(void);
/// Waits for room or counts a drop, as the session says. True when a slot may be tried again.
bool ring_is_full(struct trace_ring *ring, uint64_t start_ns, bool definition);
void attach_session(void);
/// From here on system calls by number go through the wrappers.
void record_numbers(void);
/// Notes a program that is about to be started when this library won't be loaded into it.
void examine_program(int folder, const char *path);
void note_escape(uint32_t reason, const char *path);
/// Makes room to follow stdio streams; the standard three are followed from then on.
bool streams_prepare(void);
/// Writes what streams hold while it can still be recorded: libc does it after the last function of this library.
void flush_streams_at_exit(void);

/// Finds out whether `usable` slots, and memory, suffice for records numbered below `end`, and how far that is so.
bool extend_limit(struct trace_ring *ring, uint64_t end, uint32_t usable);

static inline uint64_t now_ns(void) {
  struct timespec t;
  real_clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/// True when this thread's calls are to be recorded; prepares its ring.
static inline bool recording(void) {
  if (UNLIKELY(!__atomic_load_n(&session->active, __ATOMIC_RELAXED))) return false;
  if (UNLIKELY(me.in_vfork | me.busy)) return false;
  if (UNLIKELY(!*same_process)) after_fork_in_child();
  return LIKELY(me.ring != NULL) || acquire_ring() != NULL;
}

/// Reserves `count` slots for this thread, a signal handler's calls included; returns the first one's running number, or
/// UINT64_MAX when the ring is full.
static inline uint64_t reserve_slots(struct trace_ring *ring, uint32_t count, uint32_t usable) {
  uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
  for (;;) {
    if (UNLIKELY(head + count > ring->limit) && !extend_limit(ring, head + count, usable)) return UINT64_MAX;
#if defined(__x86_64__)
    // Only this thread and its signal handlers write the word, so the exchange need not be locked.
    uint64_t expected = head;
    bool swapped;
    __asm__ volatile("cmpxchgq %3, %1" : "+a"(expected), "+m"(ring->head), "=@ccz"(swapped) : "r"(head + count) : "memory");
    if (LIKELY(swapped)) return head;
    head = expected;
#else
    if (__atomic_compare_exchange_n(&ring->head, &head, head + count, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return head;
#endif
  }
}

static inline struct trace_record *ring_slot(struct trace_ring *ring, uint64_t number) {
  struct trace_record *slots = (struct trace_record *)((char *)ring + TRACE_RING_HEADER_BYTES);
  return &slots[number & (ring->record_count - 1)];
}

static inline void publish_slot(struct trace_record *slot, uint64_t number) {
  __atomic_store_n(&slot->sequence, (uint32_t)(number + 1), __ATOMIC_RELEASE);
}

/// A call between its start and its record.
struct call {
  struct trace_ring *ring;
  struct description *description;
  uint64_t start_ns;
  uint64_t outer_ns;
  uint32_t id;
  uint32_t flags;
};

static inline void start_call(struct call *call) {
  struct trace_ring *ring = me.ring;
  void *frame = __builtin_frame_address(0);
  call->ring = ring;
  call->outer_ns = __atomic_load_n(&ring->in_flight_ns, __ATOMIC_RELAXED);
  if (UNLIKELY(call->outer_ns)) {
    if (frame > me.frame) call->outer_ns = 0;
  }
  if (LIKELY(!call->outer_ns)) {
    me.frame = frame;
    __atomic_store_n(&ring->in_flight_ns, 1, __ATOMIC_RELAXED);
    call->start_ns = now_ns();
    __atomic_store_n(&ring->in_flight_ns, call->start_ns, __ATOMIC_RELAXED);
  } else {
    call->start_ns = now_ns();
  }
}

/// Publishes the record of a finished call.
static inline void finish_call(
    struct call *call, uint64_t end_ns, uint8_t operation, uint64_t offset, uint64_t size, int64_t result,
    uint32_t flags, uint32_t other) {
  struct trace_ring *ring = call->ring;
  uint32_t count = ring->record_count, usable = count - trace_ring_headroom(count);
  uint64_t number;
  while (UNLIKELY((number = reserve_slots(ring, 1, usable)) == UINT64_MAX)) {
    if (!ring_is_full(ring, call->start_ns, false)) {
      __atomic_store_n(&ring->in_flight_ns, call->outer_ns, __ATOMIC_RELEASE);
      return;
    }
  }
  struct trace_record *slot = ring_slot(ring, number);
  slot->thread_id = me.thread_id;
  slot->start_ns = call->start_ns;
  slot->latency_ns = end_ns - call->start_ns;
  slot->offset = offset;
  slot->size = size;
  slot->result = result;
  slot->description = call->id;
  slot->other_description = other;
  slot->flags = flags;
  slot->operation = operation;
  slot->phase = TRACE_PHASE_CALL;
  publish_slot(slot, number);
  __atomic_store_n(&ring->in_flight_ns, call->outer_ns, __ATOMIC_RELEASE);
}

/// A request that completes later, as its submission tells it.
struct request {
  uint64_t context, key;
  uint64_t offset, size;
  uint32_t id, other, flags;
  uint8_t operation;
};
/// Publishes that a request is on its way, from `start_ns` on.
void publish_submission(const struct request *request, uint64_t start_ns);
/// Publishes a completion; `flags` are trace_completion_flags.
void publish_completion(uint64_t context, uint64_t key, int64_t result, uint64_t seen_ns, uint32_t flags);
/// Publishes that the kernel did not take the request.
void publish_withdrawal(uint64_t context, uint64_t key);
/// Bytes of `n` buffers that the kernel is about to read the descriptions of.
uint64_t bytes_of_vector(uint64_t vector, uint64_t n);
/// A function that its library may bring late, or never (NULL).
void *find_function(const char *name, const char *library);

/// A thread that maps a ring of io_uring, or part of one, tells so here; true when that is what `fd` is.
bool uring_was_mapped(struct description *description, void *address, uint64_t offset);
void uring_is_unmapped(const void *address);
void uring_is_closed(struct description *description);
/// Accounts for the rings that are open when the process ends.
void account_urings_at_exit(void);
void forget_urings(void);
extern uint32_t urings_in_use;

// System calls by number that have no function in libc; results as of syscall(2).
long io_submit_by_number(long context, long count, void *list);
long io_getevents_by_number(long number, long context, long least, long most, void *events, void *timeout, void *signals);
long io_cancel_by_number(long context, void *request, void *event);
long uring_setup_by_number(long entries, void *parameters);
long uring_enter_by_number(long fd, long submit, long least, long flags, long argument, long bytes);
long uring_register_by_number(long fd, long operation, void *argument, long count);

/// Begins a call on a descriptor; false when it passes through unrecorded.
static inline bool begin_call(struct call *call, int fd) {
  if (UNLIKELY(!recording())) return false;
  struct description *description = description_of(fd);
  call->description = description;
  call->id = description ? description->id : TRACE_NO_DESCRIPTION;
  call->flags = description ? description->flags : 0;
  start_call(call);
  return true;
}

/// Begins a call that names no descriptor.
static inline bool begin_named_call(struct call *call) {
  if (UNLIKELY(!recording())) return false;
  call->description = NULL;
  call->id = TRACE_NO_DESCRIPTION;
  call->flags = 0;
  start_call(call);
  return true;
}

/// Ends a call that leaves no record; true.
static inline bool abandon_call(struct call *call) {
  __atomic_store_n(&call->ring->in_flight_ns, call->outer_ns, __ATOMIC_RELEASE);
  return true;
}

/// The result for a record: -errno of a failed call.
static inline int64_t result_of(int64_t result) { return LIKELY(result >= 0) ? result : -(int64_t)errno; }

static inline void finish_plain(struct call *call, uint8_t operation, uint64_t offset, uint64_t size, int64_t result) {
  finish_call(call, now_ns(), operation, offset, size, result_of(result), call->flags, TRACE_NO_DESCRIPTION);
}

/// Takes part in following the position: call before the clock starts.
static inline void claim_position(struct call *call) {
  if (call->description && UNLIKELY(call->description->owner != me.slot)) call->description->owner = me.slot;
}

/// Moves the followed position by a finished call at it, and gives that call's offset.
static inline uint64_t advance_position(
    struct description *description, int fd, int64_t moved, bool at_end, uint32_t *flags) {
  if (!description || !description->seekable) return TRACE_UNKNOWN_OFFSET;
  if (LIKELY(!at_end && description->private_generation == process_generation &&
             description->private_epoch == __atomic_load_n(&session->share_epoch, __ATOMIC_RELAXED))) {
    if (UNLIKELY(description->owner != me.slot)) *flags |= TRACE_FLAG_INFERRED_OFFSET;
    if (UNLIKELY(moved <= 0)) return __atomic_load_n(&description->position, __ATOMIC_RELAXED);
    return __atomic_fetch_add(&description->position, (uint64_t)moved, __ATOMIC_RELAXED);
  }
  return offset_from_kernel(description, fd, moved, flags);
}

/// Publishes a read or write at the description's position.
static inline void finish_sequential(
    struct call *call, int fd, uint8_t operation, uint64_t size, ssize_t result, uint32_t more_flags) {
  uint64_t end_ns = now_ns();
  uint32_t flags = call->flags | TRACE_FLAG_SEQUENTIAL | more_flags;
  bool at_end = operation == TRACE_OP_WRITE && (flags & TRACE_FLAG_APPEND);
  int64_t outcome = result_of(result);
  uint64_t offset = advance_position(call->description, fd, outcome, at_end, &flags);
  finish_call(call, end_ns, operation, offset, size, outcome, flags, TRACE_NO_DESCRIPTION);
}

/// Publishes a read or write at an offset of its own.
static inline void finish_at(
    struct call *call, int fd, uint8_t operation, uint64_t offset, uint64_t size, ssize_t result, uint32_t more_flags) {
  uint64_t end_ns = now_ns();
  uint32_t flags = call->flags | more_flags;
  // Linux appends whatever offset pwrite names when the description has O_APPEND.
  if (UNLIKELY(operation == TRACE_OP_WRITE && (flags & TRACE_FLAG_APPEND) && result > 0)) {
    struct stat status;
    if (RAW(SYS_fstat, fd, &status) == 0) offset = (uint64_t)status.st_size - (uint64_t)result;
    flags |= TRACE_FLAG_INFERRED_OFFSET;
  }
  finish_call(call, end_ns, operation, offset, size, result_of(result), flags, TRACE_NO_DESCRIPTION);
}
#endif
