#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include "trace_net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <xxhash.h>

const int CTRACE_POLLRDHUP = POLLRDHUP;

int ctrace_socket(int family, int datagram, int blocking) {
  return socket(family, (datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
}
int ctrace_accept_peer(int fd, struct sockaddr_storage *peer, socklen_t *length) {
  *length = sizeof *peer;
  return accept4(fd, (struct sockaddr *)peer, length, SOCK_CLOEXEC | SOCK_NONBLOCK);
}
int ctrace_set_socket_option(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof value); }
int ctrace_set_nodelay(int fd) { return ctrace_set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); }
int ctrace_set_reuse(int fd) {
  int code = ctrace_set_socket_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  return code != 0 ? code : ctrace_set_socket_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
}
int ctrace_set_receive_timeout(int fd, int64_t nanoseconds) {
  struct timeval limit = {.tv_sec = nanoseconds / 1000000000, .tv_usec = nanoseconds % 1000000000 / 1000};
  return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}
void ctrace_set_buffers(int fd, int bytes) {
  ctrace_set_socket_option(fd, SOL_SOCKET, SO_RCVBUF, bytes);
  ctrace_set_socket_option(fd, SOL_SOCKET, SO_SNDBUF, bytes);
}
int ctrace_socket_error(int fd) {
  int code = 0;
  socklen_t length = sizeof code;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) == 0 ? code : errno;
}
int ctrace_set_blocking(int fd) { return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK); }
socklen_t ctrace_unix_address(struct sockaddr_storage *address, const char *path) {
  struct sockaddr_un *local = (struct sockaddr_un *)address;
  memset(address, 0, sizeof *address);
  if (strlen(path) >= sizeof local->sun_path) return 0;
  local->sun_family = AF_UNIX;
  strcpy(local->sun_path, path);
  return sizeof *local;
}
int ctrace_unacknowledged(int fd) {
  int bytes = 0;
  return ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : -1;
}
ssize_t ctrace_send_two(int fd, const void *first, size_t first_length, const void *second, size_t second_length, int flags) {
  struct iovec pieces[2] = {{(void *)first, first_length}, {(void *)second, second_length}};
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = second_length ? 2 : 1};
  return sendmsg(fd, &message, flags);
}
ssize_t ctrace_receive_two(int fd, void *first, size_t first_length, void *second, size_t second_length, int *flags) {
  struct iovec pieces[2] = {{first, first_length}, {second, second_length}};
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = second_length ? 2 : 1};
  ssize_t received = recvmsg(fd, &message, *flags);
  *flags = message.msg_flags;
  return received;
}
ssize_t ctrace_send_pieces(int fd, const struct iovec *pieces, size_t count, int flags) {
  struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = count};
  return sendmsg(fd, &message, flags);
}
ssize_t ctrace_pipe_vmsplice(int pipe, void *memory, size_t length, int wait) {
  struct iovec piece = {memory, length};
  return vmsplice(pipe, &piece, 1, wait ? 0 : SPLICE_F_NONBLOCK);
}
ssize_t ctrace_pipe_splice(int from, int to, size_t length, int wait, int more) {
  return splice(from, NULL, to, NULL, length, SPLICE_F_MOVE | (wait ? 0 : SPLICE_F_NONBLOCK) | (more ? SPLICE_F_MORE : 0));
}

int ctrace_address_port(const struct sockaddr_storage *address) {
  if (address->ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)address)->sin_port);
  if (address->ss_family == AF_INET6) return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
  return 0;
}
void ctrace_set_address_port(struct sockaddr_storage *address, int port) {
  if (address->ss_family == AF_INET) ((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
  if (address->ss_family == AF_INET6) ((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
}
size_t ctrace_address_bytes(const struct sockaddr_storage *address, uint8_t bytes[16]) {
  if (address->ss_family == AF_INET) {
    memcpy(bytes, &((const struct sockaddr_in *)address)->sin_addr, 4);
    return 4;
  }
  if (address->ss_family == AF_INET6) {
    memcpy(bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
    return 16;
  }
  return 0;
}

ctrace_digest *ctrace_digest_new(void) {
  XXH3_state_t *state = XXH3_createState();
  if (state) XXH3_64bits_reset(state);
  return (ctrace_digest *)state;
}
void ctrace_digest_free(ctrace_digest *digest) { XXH3_freeState((XXH3_state_t *)digest); }
void ctrace_digest_add(ctrace_digest *digest, const void *bytes, size_t length) {
  XXH3_64bits_update((XXH3_state_t *)digest, bytes, length);
}
uint64_t ctrace_digest_value(const ctrace_digest *digest) { return XXH3_64bits_digest((const XXH3_state_t *)digest); }
uint64_t ctrace_digest_piece(const void *bytes, size_t length, uint64_t seed) { return XXH3_64bits_withSeed(bytes, length, seed); }
