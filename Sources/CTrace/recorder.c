// What a recorder needs of signals, terminals and local sockets.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

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
