#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/kcmp.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

const int CTRACE_O_DIRECT = O_DIRECT, CTRACE_O_DSYNC = O_DSYNC, CTRACE_O_SYNC = O_SYNC, CTRACE_O_TMPFILE = O_TMPFILE,
          CTRACE_O_PATH = O_PATH;
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
pid_t ctrace_gettid(void) { return (pid_t)syscall(SYS_gettid); }
int ctrace_pin_thread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set);
}

volatile int ctrace_stop_signal_number;
static void on_stop(int signal) {
  if (ctrace_stop_signal_number) _exit(128 + signal);
  ctrace_stop_signal_number = signal;
}
void ctrace_install_stop_handlers(void) {
  struct sigaction action = {.sa_handler = on_stop};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}
void ctrace_set_stop_signal(int signal) { ctrace_stop_signal_number = signal; }
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
int ctrace_unshare_files(void) { return unshare(CLONE_FILES); }
void ctrace_use_huge_pages(void *memory, size_t bytes) { madvise(memory, bytes, MADV_HUGEPAGE); }
