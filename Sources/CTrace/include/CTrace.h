// One umbrella header over liburing, libaio, zlib and what Swift can't import of the kernel's headers. No logic.
#ifndef CTRACE_H
#define CTRACE_H

// _GNU_SOURCE is not defined here: Swift's own Glibc module is built without it, and two definitions of one type
// don't mix. What needs it is declared below and defined in CTrace.c.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <libaio.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include "trace_bpf.h"
#include "trace_net.h"
#include "trace_ring.h"

// The static inline functions below are macros or variadic in C, which Swift can't import.

/// deflateInit2 with a raw stream (no zlib header or check value).
static inline int ctrace_deflate_init_raw(z_streamp stream, int level, int strategy) {
  return deflateInit2(stream, level, Z_DEFLATED, -15, 9, strategy);
}
/// inflateInit2 of a raw stream.
static inline int ctrace_inflate_init_raw(z_streamp stream) { return inflateInit2(stream, -15); }

/// openat2(2); -1 with errno on failure.
int ctrace_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
/// BLKGETSIZE64 of a block device; -1 with errno on failure.
int ctrace_block_size64(int fd, uint64_t *bytes);
/// What O_DIRECT asks of memory addresses, and of offsets and lengths, in bytes: STATX_DIOALIGN of statx(2) (0 when the file does not
/// take O_DIRECT), else BLKSSZGET; -1 where neither is known.
int ctrace_direct_io_alignment(int fd, uint32_t *memory_bytes, uint32_t *offset_bytes);
/// BLKDISCARD of a block device; -1 with errno on failure.
int ctrace_block_discard(int fd, uint64_t offset, uint64_t length);
/// fallocate(2).
int ctrace_fallocate(int fd, int mode, int64_t offset, int64_t length);
/// sync_file_range(2).
int ctrace_sync_file_range(int fd, int64_t offset, int64_t length, unsigned flags);
/// preadv2(2) and pwritev2(2) with one buffer.
ssize_t ctrace_pread2(int fd, void *buffer, size_t length, int64_t offset, int flags);
ssize_t ctrace_pwrite2(int fd, const void *buffer, size_t length, int64_t offset, int flags);
/// Birth time of an open file in nanoseconds since 1970, or -1 where the filesystem has none (statx(2)).
int64_t ctrace_birth_time_ns(int fd);
/// Handlers of SIGINT and SIGTERM: the first signal is remembered, a second one exits with 128 + its number.
void ctrace_install_stop_handlers(void);
/// The first of these signals that came, or 0.
extern volatile int ctrace_stop_signal_number;
static inline int ctrace_stop_signal(void) { return ctrace_stop_signal_number; }
/// Remembers a stop as if `signal` had come; 0 forgets it.
void ctrace_set_stop_signal(int signal);
/// Counts `signal` from now on, in place of its default action; other calls go on after it.
void ctrace_count_signal(int signal);
/// How often the counted signal came.
unsigned ctrace_signal_count(void);
/// Columns of the terminal at `fd`, or 0.
int ctrace_terminal_columns(int fd);
/// The name of an errno (`EIO`), or NULL.
const char *ctrace_error_name(int code);
/// Listens on, or connects to, a local stream socket with an abstract name (without the leading NUL); -1 with errno on failure.
int ctrace_listen_abstract(const char *name);
int ctrace_connect_abstract(const char *name);
/// accept(2), closed at exec; reads and writes of the connection end after `seconds`.
int ctrace_accept(int fd, int seconds);
/// User of the process at the other end of a local socket, or -1 where that is not known.
int64_t ctrace_peer_user(int fd);
/// send(2) without SIGPIPE.
ssize_t ctrace_send(int fd, const void *bytes, size_t count);
/// An eventfd(2) of the process that is readable from the first stop signal on, for whoever waits on descriptors; made when first
/// asked for. -1 with errno on failure.
int ctrace_stop_descriptor(void);
/// From now on forks are counted.
void ctrace_count_forks(void);
/// Goes up in every child of fork(2), for owners of what a child must not touch.
extern volatile int ctrace_fork_generation_number;
static inline int ctrace_fork_generation(void) { return ctrace_fork_generation_number; }
/// The calling thread's ID.
pid_t ctrace_gettid(void);
/// Timer slack of the calling thread to 1 ns.
void ctrace_use_fine_timers(void);
/// Gives the calling thread a descriptor table of its own, a copy of the process's (CLONE_FILES of unshare(2)); -1 with errno on
/// failure.
int ctrace_unshare_files(void);
/// Pins the calling thread to one CPU; -1 with errno on failure.
int ctrace_pin_thread(int cpu);
/// Anonymous private memory that takes none before it is touched; NULL with errno on failure.
void *ctrace_map_memory(size_t bytes);
/// Asks for huge pages behind memory (madvise(2)).
void ctrace_use_huge_pages(void *memory, size_t bytes);
/// memfd_create(2), closed at exec.
int ctrace_memory_file(const char *name);
/// pipe2(2) with both ends closed at exec.
int ctrace_pipe(int ends[2]);
/// splice(2) and vmsplice(2) without flags, of one piece of memory: bytes moved, or the negative errno.
int64_t ctrace_splice(int in, int64_t *in_offset, int out, int64_t *out_offset, size_t length);
int64_t ctrace_vmsplice(int pipe_end, void *memory, size_t length);
/// pipe2(2) with both ends closed at exec, neither of which ever waits.
int ctrace_nonblocking_pipe(int ends[2]);
/// F_SETPIPE_SZ and F_GETPIPE_SZ: the capacity in bytes; -1 with errno on failure.
int ctrace_set_pipe_size(int fd, int bytes);
int ctrace_pipe_size(int fd);
/// Fresh anonymous memory that can only be read, for pages that the kernel puts there; NULL with errno on failure.
void *ctrace_map_unwritable(size_t bytes);
/// mmap(2) of a file, shared; NULL with errno on failure.
void *ctrace_map_file(int fd, int64_t offset, size_t bytes, int writable);
/// Handles SIGBUS of `ctrace_guarded_copy`; any other goes to the action that was there before. Once per process.
void ctrace_catch_bus_errors(void);
/// memcpy(3) from or to a mapping; -1 when the mapping had no page behind it, with part of the bytes copied.
int ctrace_guarded_copy(void *to, const void *from, size_t bytes);
/// What O_DIRECT asks of offsets and lengths of an open file or block device (STATX_DIOALIGN, BLKSSZGET); 0 when it takes none.
uint32_t ctrace_direct_alignment(int fd);
/// Bytes of an open file in the page cache (cachestat(2), Linux 6.5); -1 when that is not known.
int64_t ctrace_cached_bytes(int fd);
/// Writes a file's pages back and evicts them (POSIX_FADV_DONTNEED); 0, or the errno.
int ctrace_drop_cached_pages(int fd);
/// stat(2) with the birth time in nanoseconds since 1970, INT64_MIN where the filesystem has none; -1 with errno on failure.
int ctrace_status(const char *path, struct stat *status, int64_t *birth_ns);
/// A filesystem mounted nowhere: a descriptor of its root, gone with the descriptor (fsmount(2)); -1 with errno on failure.
int ctrace_detached_mount(const char *filesystem);
/// 1 when two descriptors of two processes are one open file description (kcmp(2)), 0 when not or not known.
int ctrace_same_description(pid_t a, int descriptor_a, pid_t b, int descriptor_b);
/// setrlimit(RLIMIT_CORE).
static inline int ctrace_limit_core(const struct rlimit *limit) { return setrlimit(RLIMIT_CORE, limit); }
/// PR_SET_CHILD_SUBREAPER: orphaned descendants become children of the caller.
static inline int ctrace_adopt_orphans(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
/// si_pid of a signal's or waitid's information.
static inline pid_t ctrace_signal_process(const siginfo_t *information) { return information->si_pid; }
/// A gate that a program waits at before it is executed; NULL with errno without memory.
struct ctrace_gate;
struct ctrace_gate *ctrace_make_gate(void);
void ctrace_remove_gate(struct ctrace_gate *gate);
/// fork(2), and execve(2) once the gate is open; the child ends with status 127 when the gate is given up, its parent is gone, or
/// execve fails. -1 with errno on failure.
pid_t ctrace_start_at_gate(
    struct ctrace_gate *gate, const char *path, char *const *arguments, char *const *environment, const sigset_t *mask);
void ctrace_open_gate(struct ctrace_gate *gate);
void ctrace_give_up_gate(struct ctrace_gate *gate);
/// errno of the child's execve, 0 unless that failed.
int ctrace_gate_failure(struct ctrace_gate *gate);
static inline int ctrace_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
static inline int ctrace_major(uint64_t device) { return (int)major(device); }
static inline int ctrace_minor(uint64_t device) { return (int)minor(device); }

// epoll and eventfd, without epoll_event: it is packed on some machines.

/// A descriptor that is ready: what it was registered with, and EPOLL* bits.
struct ctrace_ready {
  uint64_t data;
  uint32_t events;
};
/// epoll_create1(2), closed at exec; -1 with errno on failure.
int ctrace_epoll_create(void);
/// epoll_ctl(2); 0 or errno.
int ctrace_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t data);
/// Waits until `deadline` (CLOCK_MONOTONIC, nanoseconds; 0 for not at all); the number of descriptors that are ready, 0 at a
/// signal. At most 64 are taken at once.
int ctrace_epoll_wait(int epoll, struct ctrace_ready *ready, int limit, int64_t deadline);
/// eventfd(2), not blocking, closed at exec; -1 with errno on failure.
int ctrace_event_descriptor(void);
/// Sets an eventfd's counter to 0.
void ctrace_event_clear(int fd);
/// Adds 1 to an eventfd's counter.
void ctrace_event_signal(int fd);

// io_uring: what liburing has as macros, or not at all in the version of Debian 12.

/// A completion: io_uring_cqe without its optional second half.
struct ctrace_completion {
  uint64_t user_data;
  int32_t result;
  uint32_t flags;
};
/// Moves up to `limit` completions out of the ring; the number of them. `all_user_data` and `all_flags` become the bitwise or of
/// theirs.
static inline unsigned ctrace_uring_drain(
    struct io_uring *ring, struct ctrace_completion *completions, unsigned limit, uint64_t *all_user_data, uint32_t *all_flags) {
  unsigned head, count = 0;
  uint64_t all = 0;
  uint32_t flags = 0;
  struct io_uring_cqe *cqe;
  io_uring_for_each_cqe(ring, head, cqe) {
    if (count == limit) break;
    all |= cqe->user_data;
    flags |= cqe->flags;
    completions[count].user_data = cqe->user_data;
    completions[count].result = cqe->res;
    completions[count++].flags = cqe->flags;
  }
  if (count) io_uring_cq_advance(ring, count);
  *all_user_data = all;
  *all_flags = flags;
  return count;
}
/// The kernel has work for the ring that only an io_uring_enter(2) runs: deferred task work, or completions that overflowed.
static inline int ctrace_uring_needs_enter(const struct io_uring *ring) {
  return (*ring->sq.kflags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}
/// The completion queue was full, and the kernel holds completions that did not fit.
static inline int ctrace_uring_has_overflow(const struct io_uring *ring) { return (*ring->sq.kflags & IORING_SQ_CQ_OVERFLOW) != 0; }
/// Prepares IORING_OP_FTRUNCATE (Linux 6.9).
static inline void ctrace_uring_prep_ftruncate(struct io_uring_sqe *sqe, int fd, int64_t length) {
  io_uring_prep_rw(55, sqe, fd, NULL, 0, (uint64_t)length);
}

// libaio: iocb's members have other names and padding from machine to machine.

/// Fills in a control block. `event` is an eventfd that its completion adds 1 to, or -1; `operation` an IO_CMD_*, `flags` RWF_*.
static inline void ctrace_aio_prepare(
    struct iocb *block, int operation, int fd, void *buffer, uint64_t length, int64_t offset, int flags, int event) {
  memset(block, 0, sizeof *block);
  block->aio_lio_opcode = (short)operation;
  block->aio_fildes = fd;
  block->aio_rw_flags = flags;
  block->u.c.buf = buffer;
  block->u.c.nbytes = length;
  block->u.c.offset = offset;
  if (event >= 0) io_set_eventfd(block, event);
}
/// An event's result: bytes, or -errno.
static inline int64_t ctrace_aio_result(const struct io_event *event) { return (int64_t)event->res; }

// wait(2) status macros.
static inline int ctrace_exited(int status) { return WIFEXITED(status); }
static inline int ctrace_exit_status(int status) { return WEXITSTATUS(status); }
static inline int ctrace_signaled(int status) { return WIFSIGNALED(status); }
static inline int ctrace_term_signal(int status) { return WTERMSIG(status); }

// pread64(2) and pwrite64(2) without the C library, which in a program of several threads makes each of them a cancellation
// point: two atomic operations that the replayed call would pay for.

/// Bytes moved, or -errno.
static inline int64_t ctrace_raw_pread(int fd, void *buffer, size_t length, int64_t offset) {
#if defined(__x86_64__)
  register int64_t r10 __asm__("r10") = offset;
  int64_t result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"((int64_t)__NR_pread64), "D"((int64_t)fd), "S"(buffer), "d"(length), "r"(r10)
                   : "rcx", "r11", "memory");
  return result;
#else
  ssize_t result = pread(fd, buffer, length, offset);
  return result < 0 ? -errno : result;
#endif
}
static inline int64_t ctrace_raw_pwrite(int fd, const void *buffer, size_t length, int64_t offset) {
#if defined(__x86_64__)
  register int64_t r10 __asm__("r10") = offset;
  int64_t result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"((int64_t)__NR_pwrite64), "D"((int64_t)fd), "S"(buffer), "d"(length), "r"(r10)
                   : "rcx", "r11", "memory");
  return result;
#else
  ssize_t result = pwrite(fd, buffer, length, offset);
  return result < 0 ? -errno : result;
#endif
}

/// CLOCK_MONOTONIC in nanoseconds, through the vDSO.
static inline int64_t ctrace_monotonic_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
/// CLOCK_REALTIME in nanoseconds since 1970-01-01 UTC.
static inline int64_t ctrace_realtime_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
/// CPU time of the process so far, in nanoseconds.
static inline int64_t ctrace_process_cpu_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
/// CPU time of the calling thread so far, in nanoseconds.
static inline int64_t ctrace_thread_cpu_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
/// Sleeps until an absolute CLOCK_MONOTONIC time; returns at signals too.
static inline void ctrace_sleep_until(int64_t monotonic_ns) {
  struct timespec t = {.tv_sec = monotonic_ns / 1000000000, .tv_nsec = monotonic_ns % 1000000000};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0);
}
static inline void ctrace_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Atomics on plain memory shared between threads or processes.
static inline uint64_t ctrace_load_acquire64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void ctrace_store_release64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline uint64_t ctrace_load_relaxed64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void ctrace_store_relaxed64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline uint64_t ctrace_fetch_add64(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); }
static inline uint32_t ctrace_load_acquire32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void ctrace_store_release32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

extern const int CTRACE_O_DIRECT, CTRACE_O_DSYNC, CTRACE_O_SYNC, CTRACE_O_TMPFILE, CTRACE_O_PATH, CTRACE_O_DIRECTORY;
extern const uint64_t CTRACE_RESOLVE_BENEATH, CTRACE_RESOLVE_NO_SYMLINKS;
extern const int CTRACE_FALLOC_PUNCH_HOLE;
extern const short CTRACE_SPAWN_SETSID;
#endif
