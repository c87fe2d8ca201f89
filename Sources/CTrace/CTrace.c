#define _GNU_SOURCE
#include "CTrace.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/kcmp.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <setjmp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

const int CTRACE_O_DIRECT = O_DIRECT, CTRACE_O_DSYNC = O_DSYNC, CTRACE_O_SYNC = O_SYNC, CTRACE_O_TMPFILE = O_TMPFILE,
          CTRACE_O_PATH = O_PATH, CTRACE_O_DIRECTORY = O_DIRECTORY;
const uint64_t CTRACE_RESOLVE_BENEATH = RESOLVE_BENEATH, CTRACE_RESOLVE_NO_SYMLINKS = RESOLVE_NO_SYMLINKS;
const int CTRACE_FALLOC_PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
const short CTRACE_SPAWN_SETSID = POSIX_SPAWN_SETSID;

int ctrace_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
  return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}
int ctrace_block_size64(int fd, uint64_t *bytes) { return ioctl(fd, BLKGETSIZE64, bytes); }
int ctrace_block_discard(int fd, uint64_t offset, uint64_t length) {
  uint64_t range[2] = {offset, length};
  return ioctl(fd, BLKDISCARD, range);
}
int ctrace_fallocate(int fd, int mode, int64_t offset, int64_t length) { return fallocate(fd, mode, offset, length); }
int ctrace_sync_file_range(int fd, int64_t offset, int64_t length, unsigned flags) {
  return sync_file_range(fd, offset, length, flags);
}
ssize_t ctrace_pread2(int fd, void *buffer, size_t length, int64_t offset, int flags) {
  if (!flags) return pread(fd, buffer, length, offset);
  struct iovec piece = {buffer, length};
  return preadv2(fd, &piece, 1, offset, flags);
}
ssize_t ctrace_pwrite2(int fd, const void *buffer, size_t length, int64_t offset, int flags) {
  if (!flags) return pwrite(fd, buffer, length, offset);
  struct iovec piece = {(void *)buffer, length};
  return pwritev2(fd, &piece, 1, offset, flags);
}
int64_t ctrace_birth_time_ns(int fd) {
  struct statx status;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &status) != 0 || !(status.stx_mask & STATX_BTIME)) return -1;
  return (int64_t)status.stx_btime.tv_sec * 1000000000 + status.stx_btime.tv_nsec;
}
int ctrace_direct_io_alignment(int fd, uint32_t *memory_bytes, uint32_t *offset_bytes) {
#ifdef STATX_DIOALIGN
  struct statx status;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && (status.stx_mask & STATX_DIOALIGN)) {
    *memory_bytes = status.stx_dio_mem_align;
    *offset_bytes = status.stx_dio_offset_align;
    return 0;
  }
#endif
  int bytes;
  if (ioctl(fd, BLKSSZGET, &bytes) != 0) return -1;
  *memory_bytes = *offset_bytes = (uint32_t)bytes;
  return 0;
}
pid_t ctrace_gettid(void) { return (pid_t)syscall(SYS_gettid); }
int ctrace_pin_thread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set);
}

volatile int ctrace_stop_signal_number;
static volatile int stop_descriptor = -1;
static pthread_once_t stop_once = PTHREAD_ONCE_INIT;
static void make_stop_descriptor(void) { stop_descriptor = eventfd(ctrace_stop_signal_number != 0, EFD_CLOEXEC | EFD_NONBLOCK); }
static void on_stop(int signal) {
  if (ctrace_stop_signal_number) _exit(128 + signal);
  ctrace_stop_signal_number = signal;
  int code = errno;
  ctrace_event_signal(stop_descriptor);
  errno = code;
}
int ctrace_stop_descriptor(void) {
  pthread_once(&stop_once, make_stop_descriptor);
  return stop_descriptor;
}
void ctrace_install_stop_handlers(void) {
  // Made here: a handler may not make it.
  ctrace_stop_descriptor();
  struct sigaction action = {.sa_handler = on_stop};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}
void ctrace_set_stop_signal(int signal) {
  ctrace_stop_signal_number = signal;
  if (stop_descriptor < 0) return;
  if (signal) {
    ctrace_event_signal(stop_descriptor);
  } else {
    ctrace_event_clear(stop_descriptor);
  }
}

volatile int ctrace_fork_generation_number;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static void count_fork(void) { ctrace_fork_generation_number++; }
static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }
void ctrace_count_forks(void) { pthread_once(&fork_once, watch_forks); }

int ctrace_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }
int ctrace_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  return epoll_ctl(epoll, operation, fd, &event) == 0 ? 0 : errno;
}
int ctrace_epoll_wait(int epoll, struct ctrace_ready *ready, int limit, int64_t deadline) {
  struct epoll_event events[64];
  if (limit > 64) limit = 64;
  int64_t wait = 0;
  if (deadline) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    wait = deadline - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    if (wait < 0) wait = 0;
  }
  struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
  int count = epoll_pwait2(epoll, events, limit, &timeout, NULL);
  // Linux before 5.11, and sandboxes that do not know the call: whole milliseconds, rounded up so that nobody spins.
  if (count < 0 && (errno == ENOSYS || errno == EPERM)) {
    int64_t milliseconds = (wait + 999999) / 1000000;
    count = epoll_wait(epoll, events, limit, milliseconds > 3600000 ? 3600000 : (int)milliseconds);
  }
  for (int i = 0; i < count; i++) ready[i] = (struct ctrace_ready){events[i].data.u64, events[i].events};
  return count < 0 ? 0 : count;
}
int ctrace_event_descriptor(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
void ctrace_event_clear(int fd) {
  uint64_t value;
  // Nothing to be read is what is wanted.
  if (read(fd, &value, sizeof value) < 0) return;
}
void ctrace_event_signal(int fd) {
  uint64_t one = 1;
  // A counter at its limit is readable already.
  if (write(fd, &one, sizeof one) < 0) return;
}
void ctrace_use_fine_timers(void) { prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); }
int ctrace_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }
int ctrace_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int ctrace_status(const char *path, struct stat *status, int64_t *birth_ns) {
  if (stat(path, status) != 0) return -1;
  struct statx more;
  int known = statx(AT_FDCWD, path, 0, STATX_BTIME, &more) == 0 && (more.stx_mask & STATX_BTIME);
  *birth_ns = known ? (int64_t)more.stx_btime.tv_sec * 1000000000 + more.stx_btime.tv_nsec : INT64_MIN;
  return 0;
}
int ctrace_detached_mount(const char *filesystem) {
  int context = (int)syscall(SYS_fsopen, filesystem, FSOPEN_CLOEXEC);
  if (context < 0) return -1;
  int mounted = -1;
  if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
    mounted = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
  int code = errno;
  close(context);
  errno = code;
  return mounted;
}
int ctrace_same_description(pid_t a, int descriptor_a, pid_t b, int descriptor_b) {
  return (int)syscall(SYS_kcmp, a, b, KCMP_FILE, (unsigned long)descriptor_a, (unsigned long)descriptor_b) == 0;
}
void *ctrace_map_memory(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}
int ctrace_unshare_files(void) {
  // What all threads wait for has to be in every table.
  ctrace_stop_descriptor();
  return unshare(CLONE_FILES);
}
void ctrace_use_huge_pages(void *memory, size_t bytes) { madvise(memory, bytes, MADV_HUGEPAGE); }

int64_t ctrace_splice(int in, int64_t *in_offset, int out, int64_t *out_offset, size_t length) {
  // Not the C library's function, which is a cancellation point and dearer for it.
  ssize_t moved = syscall(SYS_splice, in, in_offset, out, out_offset, length, 0);
  return moved < 0 ? -errno : moved;
}
int64_t ctrace_vmsplice(int pipe_end, void *memory, size_t length) {
  struct iovec piece = {memory, length};
  ssize_t moved = syscall(SYS_vmsplice, pipe_end, &piece, 1, 0);
  return moved < 0 ? -errno : moved;
}
int ctrace_nonblocking_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC | O_NONBLOCK); }
int ctrace_set_pipe_size(int fd, int bytes) { return fcntl(fd, F_SETPIPE_SZ, bytes); }
int ctrace_pipe_size(int fd) { return fcntl(fd, F_GETPIPE_SZ); }
void *ctrace_map_unwritable(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

void *ctrace_map_file(int fd, int64_t offset, size_t bytes, int writable) {
  void *memory = mmap(NULL, bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, offset);
  return memory == MAP_FAILED ? NULL : memory;
}

// Where a copy goes on when the mapping has no page behind it: the file ends there, or the page cannot be read or allocated.
static _Thread_local sigjmp_buf *bus_error_exit;
static struct sigaction previous_bus_action;
static void on_bus_error(int signal, siginfo_t *information, void *context) {
  (void)information, (void)context;
  if (bus_error_exit) siglongjmp(*bus_error_exit, 1);
  // Not of a guarded copy: the instruction runs again under the action that was there before.
  sigaction(signal, &previous_bus_action, NULL);
}
void ctrace_catch_bus_errors(void) {
  struct sigaction present;
  if (sigaction(SIGBUS, NULL, &present) == 0 && present.sa_sigaction == on_bus_error) return;
  // SA_NODEFER: the jump does not give the signal mask back.
  struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous_bus_action);
}
int ctrace_guarded_copy(void *to, const void *from, size_t bytes) {
  sigjmp_buf here;
  if (sigsetjmp(here, 0)) {
    bus_error_exit = NULL;
    return -1;
  }
  bus_error_exit = &here;
  __asm__ __volatile__("" ::: "memory");
  memcpy(to, from, bytes);
  __asm__ __volatile__("" ::: "memory");
  bus_error_exit = NULL;
  return 0;
}

uint32_t ctrace_direct_alignment(int fd) {
#ifdef STATX_DIOALIGN
  struct statx status;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && (status.stx_mask & STATX_DIOALIGN))
    return status.stx_dio_offset_align;
#endif
  int bytes = 0;
  return ioctl(fd, BLKSSZGET, &bytes) == 0 && bytes > 0 ? (uint32_t)bytes : 512;
}
int64_t ctrace_cached_bytes(int fd) {
  struct { uint64_t offset, length; } range = {0, 0};
  struct { uint64_t cached, dirty, writeback, evicted, recently_evicted; } state;
  if (syscall(451, fd, &range, &state, 0) != 0) return -1; // SYS_cachestat, Linux 6.5
  return (int64_t)state.cached * sysconf(_SC_PAGESIZE);
}
int ctrace_drop_cached_pages(int fd) {
  fdatasync(fd);
  return posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}
