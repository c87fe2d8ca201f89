// Sockets: what is sent and received, and the peers that stand in the place of files.
#include "preload.h"
#include <netinet/in.h>
#include <sys/un.h>

// ---- Names of peers ---------------------------------------------------------------------------------------------------------

static char *append_hexadecimal(char *at, unsigned number) {
  int shift = 12;
  while (shift > 0 && !(number >> shift)) shift -= 4;
  for (; shift >= 0; shift -= 4) *at++ = "0123456789abcdef"[number >> shift & 15];
  return at;
}

static char *append_address4(char *at, const uint8_t *bytes) {
  for (int i = 0; i < 4; i++) {
    if (i) *at++ = '.';
    at = append_number(at, bytes[i]);
  }
  return at;
}

/// As in RFC 5952: groups in hexadecimal, the longest run of zero groups left out, a mapped IPv4 address in its own form.
static char *append_address6(char *at, const uint8_t *bytes) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  *at++ = '[';
  if (memcmp(bytes, mapped, sizeof mapped) == 0) {
    at = append_address4(append_text(at, "::ffff:"), bytes + 12);
    *at++ = ']';
    return at;
  }
  int best = -1, best_length = 1;
  for (int i = 0; i < 8; i++) {
    int length = 0;
    while (i + length < 8 && !bytes[2 * (i + length)] && !bytes[2 * (i + length) + 1]) length++;
    if (length > best_length) best = i, best_length = length;
  }
  for (int i = 0; i < 8; i++) {
    if (i == best) {
      at = append_text(at, "::");
      i += best_length - 1;
      continue;
    }
    if (i && (best < 0 || i != best + best_length)) *at++ = ':';
    at = append_hexadecimal(at, (unsigned)bytes[2 * i] << 8 | bytes[2 * i + 1]);
  }
  *at++ = ']';
  return at;
}

static const char *protocol_name(int fd) {
  int protocol = 0;
  socklen_t bytes = sizeof protocol;
  if (RAW(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &bytes) != 0) return "ip";
  return protocol == IPPROTO_TCP ? "tcp" : protocol == IPPROTO_UDP ? "udp" : protocol == IPPROTO_SCTP ? "sctp" : "ip";
}

/// Writes `tcp:127.0.0.1:5432`, `udp:[::1]:53`, `unix:/run/x`, `unix:@abstract`; the length, 0 for an address without a name.
static uint32_t name_address(int fd, const struct sockaddr *address, socklen_t bytes, const char *suffix, char *out) {
  char *at = out;
  if (address->sa_family == AF_INET && bytes >= sizeof(struct sockaddr_in)) {
    const struct sockaddr_in *inet = (const struct sockaddr_in *)address;
    at = append_text(append_text(at, protocol_name(fd)), suffix);
    at = append_address4(at, (const uint8_t *)&inet->sin_addr);
    *at++ = ':';
    at = append_number(at, ntohs(inet->sin_port));
  } else if (address->sa_family == AF_INET6 && bytes >= sizeof(struct sockaddr_in6)) {
    const struct sockaddr_in6 *inet = (const struct sockaddr_in6 *)address;
    at = append_text(append_text(at, protocol_name(fd)), suffix);
    at = append_address6(at, (const uint8_t *)&inet->sin6_addr);
    *at++ = ':';
    at = append_number(at, ntohs(inet->sin6_port));
  } else if (address->sa_family == AF_UNIX && bytes > offsetof(struct sockaddr_un, sun_path)) {
    const char *name = ((const struct sockaddr_un *)address)->sun_path;
    uint32_t length = bytes - offsetof(struct sockaddr_un, sun_path);
    at = append_text(append_text(at, "unix"), suffix);
    if (name[0] == 0 && length > 1) *at++ = '@', name++, length--;
    else length = (uint32_t)strnlen(name, length);
    if (length == 0 || length > sizeof(((struct sockaddr_un *)0)->sun_path)) return 0;
    memcpy(at, name, length);
    at += length;
  }
  return (uint32_t)(at - out);
}

uint32_t name_socket(int fd, char *out) {
  struct sockaddr_storage address;
  socklen_t bytes = sizeof address;
  address.ss_family = AF_UNSPEC;
  struct sockaddr *generic = (struct sockaddr *)&address;
  uint32_t length = 0;
  bool connected = RAW(SYS_getpeername, fd, &address, &bytes) == 0;
  if (connected) length = name_address(fd, generic, bytes, ":", out);
  if (length) return length;
  // The accepted end of a local connection has a peer without a name: it is named by its own address, the server's.
  bytes = sizeof address;
  if (RAW(SYS_getsockname, fd, &address, &bytes) != 0) return 0;
  if (connected) return name_address(fd, generic, bytes, ":", out);
  int listening = 0;
  socklen_t size = sizeof listening;
  RAW(SYS_getsockopt, fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
  return name_address(fd, generic, bytes, listening ? "-listen:" : "-local:", out);
}

uint32_t define_peer_address(int fd, const void *address, uint32_t bytes) {
  if (bytes > sizeof(struct sockaddr_storage)) return TRACE_NO_DESCRIPTION;
  char name[256];
  uint32_t length = name_address(fd, address, bytes, ":", name);
  return length ? define_peer(name, length) : TRACE_NO_DESCRIPTION;
}

// ---- Connections ------------------------------------------------------------------------------------------------------------

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t bytes) {
  struct call call;
  if (!begin_call(&call, fd)) return real_connect(fd, address, bytes);
  int result = real_connect(fd, address, bytes);
  uint64_t end_ns = now_ns();
  int64_t outcome = result_of(result);
  int saved = errno;
  // The kernel has read the address, or said EFAULT.
  if (call.description && outcome != -EFAULT && outcome != -EBADF && outcome != -ENOTSOCK) {
    uint32_t id = define_peer_address(fd, address, bytes);
    if (id) call.id = id;
    if (id && (outcome == 0 || outcome == -EINPROGRESS)) call.description->id = id;
  }
  errno = saved;
  finish_call(&call, end_ns, TRACE_OP_CONNECT, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, outcome, call.flags, TRACE_NO_DESCRIPTION);
  return result;
}
extern __typeof(connect) __connect ALIAS("connect");

static int finish_accept(struct call *call, int result) {
  uint64_t end_ns = now_ns();
  int saved = errno;
  struct description *peer = result >= 0 ? describe_opened(result, O_RDWR) : NULL;
  errno = saved;
  finish_call(call, end_ns, TRACE_OP_ACCEPT, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, result_of(result), call->flags,
              peer ? peer->id : TRACE_NO_DESCRIPTION);
  return result;
}

EXPORT int accept(int fd, struct sockaddr *address, socklen_t *bytes) {
  struct call call;
  if (!begin_call(&call, fd)) return real_accept(fd, address, bytes);
  return finish_accept(&call, real_accept(fd, address, bytes));
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags) {
  struct call call;
  if (!begin_call(&call, fd)) return real_accept4(fd, address, bytes, flags);
  return finish_accept(&call, real_accept4(fd, address, bytes, flags));
}

// ---- Messages ---------------------------------------------------------------------------------------------------------------

static inline ssize_t finish_message(struct call *call, uint8_t operation, uint64_t size, ssize_t result, int message_flags) {
  if (message_flags & MSG_DONTWAIT) call->flags |= TRACE_FLAG_NO_WAIT;
  finish_plain(call, operation, TRACE_UNKNOWN_OFFSET, size, result);
  return result;
}

EXPORT ssize_t send(int fd, const void *p, size_t n, int flags) {
  struct call call;
  if (!begin_call(&call, fd)) return real_send(fd, p, n, flags);
  return finish_message(&call, TRACE_OP_SEND, n, real_send(fd, p, n, flags), flags);
}
extern __typeof(send) __send ALIAS("send");

EXPORT ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *address, socklen_t bytes) {
  struct call call;
  if (!begin_call(&call, fd)) return real_sendto(fd, p, n, flags, address, bytes);
  return finish_message(&call, TRACE_OP_SEND, n, real_sendto(fd, p, n, flags, address, bytes), flags);
}

EXPORT ssize_t recv(int fd, void *p, size_t n, int flags) {
  struct call call;
  if (!begin_call(&call, fd)) return real_recv(fd, p, n, flags);
  return finish_message(&call, TRACE_OP_RECEIVE, n, real_recv(fd, p, n, flags), flags);
}

EXPORT ssize_t __recv_chk(int fd, void *p, size_t n, size_t room, int flags) {
  struct call call;
  if (n > room || !begin_call(&call, fd)) return real___recv_chk(fd, p, n, room, flags);
  return finish_message(&call, TRACE_OP_RECEIVE, n, real___recv_chk(fd, p, n, room, flags), flags);
}

EXPORT ssize_t recvfrom(int fd, void *p, size_t n, int flags, struct sockaddr *address, socklen_t *bytes) {
  struct call call;
  if (!begin_call(&call, fd)) return real_recvfrom(fd, p, n, flags, address, bytes);
  return finish_message(&call, TRACE_OP_RECEIVE, n, real_recvfrom(fd, p, n, flags, address, bytes), flags);
}

EXPORT ssize_t __recvfrom_chk(
    int fd, void *p, size_t n, size_t room, int flags, struct sockaddr *address, socklen_t *bytes) {
  struct call call;
  if (n > room || !begin_call(&call, fd)) return real___recvfrom_chk(fd, p, n, room, flags, address, bytes);
  return finish_message(&call, TRACE_OP_RECEIVE, n, real___recvfrom_chk(fd, p, n, room, flags, address, bytes), flags);
}

/// Descriptors that are sent to another process share their positions from then on.
static void share_sent_descriptors(const struct msghdr *message) {
  if (!message || !message->msg_control) return;
  for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR((struct msghdr *)message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS || part->cmsg_len < CMSG_LEN(0)) continue;
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int sent;
      memcpy(&sent, CMSG_DATA(part) + i * sizeof sent, sizeof sent);
      struct description *description = known_description(sent);
      if (description) mark_shared(description);
    }
  }
}

/// Bytes of a message's buffers. Only a call that succeeded proves that they can be read.
static uint64_t message_bytes(const struct msghdr *message, ssize_t result) {
  if (result < 0) return TRACE_UNKNOWN_SIZE;
  uint64_t bytes = 0;
  for (size_t i = 0; i < message->msg_iovlen; i++) bytes += message->msg_iov[i].iov_len;
  return bytes;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  struct call call;
  share_sent_descriptors(message);
  if (!begin_call(&call, fd)) return real_sendmsg(fd, message, flags);
  ssize_t result = real_sendmsg(fd, message, flags);
  call.flags |= TRACE_FLAG_VECTORED;
  return finish_message(&call, TRACE_OP_SEND, message_bytes(message, result), result, flags);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  struct call call;
  if (!begin_call(&call, fd)) return real_recvmsg(fd, message, flags);
  ssize_t result = real_recvmsg(fd, message, flags);
  call.flags |= TRACE_FLAG_VECTORED;
  return finish_message(&call, TRACE_OP_RECEIVE, message_bytes(message, result), result, flags);
}

/// One event for each message that the call moved, with the call's times; one for a call that failed.
static int finish_messages(struct call *call, uint8_t operation, const struct mmsghdr *messages, int result, int message_flags) {
  uint64_t end_ns = now_ns();
  call->flags |= TRACE_FLAG_VECTORED;
  if (message_flags & MSG_DONTWAIT) call->flags |= TRACE_FLAG_NO_WAIT;
  if (result <= 0)
    finish_call(call, end_ns, operation, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, result_of(result), call->flags, TRACE_NO_DESCRIPTION);
  for (int i = 0; i < result; i++) {
    struct call each = *call;
    finish_call(&each, end_ns, operation, TRACE_UNKNOWN_OFFSET, message_bytes(&messages[i].msg_hdr, 0), messages[i].msg_len,
                call->flags, TRACE_NO_DESCRIPTION);
  }
  return result;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
  struct call call;
  for (unsigned i = 0; i < count; i++) share_sent_descriptors(&messages[i].msg_hdr);
  if (!begin_call(&call, fd)) return real_sendmmsg(fd, messages, count, flags);
  return finish_messages(&call, TRACE_OP_SEND, messages, real_sendmmsg(fd, messages, count, flags), flags);
}

EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout) {
  struct call call;
  if (!begin_call(&call, fd)) return real_recvmmsg(fd, messages, count, flags, timeout);
  return finish_messages(&call, TRACE_OP_RECEIVE, messages, real_recvmmsg(fd, messages, count, flags, timeout), flags);
}
