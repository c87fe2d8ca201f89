// Sockets: what Swift can't import of the kernel's and libc's headers, and the digest of streams. No logic.
#ifndef TRACE_NET_H
#define TRACE_NET_H

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

static const int CTRACE_MSG_DONTWAIT = MSG_DONTWAIT, CTRACE_MSG_NOSIGNAL = MSG_NOSIGNAL, CTRACE_MSG_MORE = MSG_MORE,
                 CTRACE_MSG_WAITALL = MSG_WAITALL, CTRACE_MSG_TRUNC = MSG_TRUNC, CTRACE_MSG_PEEK = MSG_PEEK;
static const int CTRACE_SHUT_WR = SHUT_WR;
extern const int CTRACE_POLLRDHUP;

/// socket(2), closed at exec, without blocking unless `blocking`.
int ctrace_socket(int family, int datagram, int blocking);
/// accept4(2), closed at exec and without blocking.
int ctrace_accept_peer(int fd, struct sockaddr_storage *peer, socklen_t *length);
/// setsockopt(2) with an int.
int ctrace_set_socket_option(int fd, int level, int name, int value);
/// Socket options that TCP streams and listeners get: TCP_NODELAY; SO_REUSEADDR and SO_REUSEPORT.
int ctrace_set_nodelay(int fd);
int ctrace_set_reuse(int fd);
/// SO_RCVTIMEO in nanoseconds: recv(2) that blocks ends after it.
int ctrace_set_receive_timeout(int fd, int64_t nanoseconds);
/// SO_RCVBUF and SO_SNDBUF, as far as the system's limits go.
void ctrace_set_buffers(int fd, int bytes);
/// SO_ERROR; the error of a connect(2) that has ended.
int ctrace_socket_error(int fd);
/// Drops O_NONBLOCK.
int ctrace_set_blocking(int fd);
/// Fills in a Unix address; its length, or 0 when the path is too long.
socklen_t ctrace_unix_address(struct sockaddr_storage *address, const char *path);
/// SIOCOUTQ: bytes that were sent and that the peer has not acknowledged (TCP) or read (Unix); -1 with errno on failure.
int ctrace_unacknowledged(int fd);
/// sendmsg(2) and recvmsg(2) with two pieces. `flags` of the receiver comes back as msg_flags.
ssize_t ctrace_send_two(int fd, const void *first, size_t first_length, const void *second, size_t second_length, int flags);
ssize_t ctrace_receive_two(int fd, void *first, size_t first_length, void *second, size_t second_length, int *flags);
/// sendmsg(2) with many pieces.
ssize_t ctrace_send_pieces(int fd, const struct iovec *pieces, size_t count, int flags);
/// vmsplice(2) of one piece; `to_user` from the pipe to memory.
ssize_t ctrace_pipe_vmsplice(int pipe, void *memory, size_t length, int wait);
/// splice(2) without offsets.
ssize_t ctrace_pipe_splice(int from, int to, size_t length, int wait, int more);
/// A family's number of an address, its port, and its bytes in network order with their number.
static inline int ctrace_address_family(const struct sockaddr_storage *address) { return address->ss_family; }
int ctrace_address_port(const struct sockaddr_storage *address);
void ctrace_set_address_port(struct sockaddr_storage *address, int port);
size_t ctrace_address_bytes(const struct sockaddr_storage *address, uint8_t bytes[16]);

/// The digest of a stream of bytes: XXH3, 64 bits, fed piece by piece.
typedef struct ctrace_digest ctrace_digest;
ctrace_digest *ctrace_digest_new(void);
void ctrace_digest_free(ctrace_digest *digest);
void ctrace_digest_add(ctrace_digest *digest, const void *bytes, size_t length);
uint64_t ctrace_digest_value(const ctrace_digest *digest);
/// The digest of one piece with a seed.
uint64_t ctrace_digest_piece(const void *bytes, size_t length, uint64_t seed);
#endif
