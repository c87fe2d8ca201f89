#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

const int CTRACE_O_DIRECT = O_DIRECT, CTRACE_O_DSYNC = O_DSYNC, CTRACE_O_SYNC = O_SYNC, CTRACE_O_TMPFILE = O_TMPFILE,
          CTRACE_O_PATH = O_PATH;
const uint64_t CTRACE_RESOLVE_BENEATH = RESOLVE_BENEATH, CTRACE_RESOLVE_NO_SYMLINKS = RESOLVE_NO_SYMLINKS;
const int CTRACE_FALLOC_PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

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

static volatile unsigned counted_signals;
static void on_counted(int signal) {
  (void)signal;
  __atomic_fetch_add(&counted_signals, 1, __ATOMIC_RELAXED);
}
void ctrace_count_signal(int signal) {
  struct sigaction action = {.sa_handler = on_counted, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, NULL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
unsigned ctrace_signal_count(void) { return __atomic_load_n(&counted_signals, __ATOMIC_RELAXED); }
int ctrace_terminal_columns(int fd) {
  struct winsize size;
  return ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}
const char *ctrace_error_name(int code) { return strerrorname_np(code); }

static socklen_t abstract_address(const char *name, struct sockaddr_un *address) {
  size_t length = strlen(name);
  if (length > sizeof address->sun_path - 1) length = sizeof address->sun_path - 1;
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path + 1, name, length);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}
int ctrace_listen_abstract(const char *name) {
  struct sockaddr_un address;
  socklen_t length = abstract_address(name, &address);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (bind(fd, (struct sockaddr *)&address, length) == 0 && listen(fd, 8) == 0) return fd;
  int code = errno;
  close(fd);
  errno = code;
  return -1;
}
int ctrace_connect_abstract(const char *name) {
  struct sockaddr_un address;
  socklen_t length = abstract_address(name, &address);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, (struct sockaddr *)&address, length) == 0) return fd;
  int code = errno;
  close(fd);
  errno = code;
  return -1;
}
int ctrace_accept(int fd, int seconds) {
  int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
  struct timeval limit = {.tv_sec = seconds};
  if (connection >= 0) {
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  return connection;
}
int64_t ctrace_peer_user(int fd) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? (int64_t)peer.uid : -1;
}
ssize_t ctrace_send(int fd, const void *bytes, size_t count) { return send(fd, bytes, count, MSG_NOSIGNAL); }
