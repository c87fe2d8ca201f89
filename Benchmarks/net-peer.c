// A sender and a receiver of one stream, for comparison with `trace-replay run --engine net`: the same sizes, one call at a time.
//
//   net-peer receive ADDRESS SIZE COUNT    listens at tcp:PORT (on 127.0.0.1) or unix:PATH, receives with MSG_WAITALL
//   net-peer send ADDRESS SIZE COUNT       connects there and sends
//
// Prints {"bytes": ..., "seconds": ...} at the end: from the first call to the last.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
  fprintf(stderr, "net-peer: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static socklen_t address_of(const char *text, struct sockaddr_storage *address) {
  memset(address, 0, sizeof *address);
  if (strncmp(text, "unix:", 5) == 0) {
    struct sockaddr_un *local = (struct sockaddr_un *)address;
    local->sun_family = AF_UNIX;
    snprintf(local->sun_path, sizeof local->sun_path, "%s", text + 5);
    return sizeof *local;
  }
  if (strncmp(text, "tcp:", 4) != 0) {
    fprintf(stderr, "net-peer: %s: tcp:PORT or unix:PATH\n", text);
    exit(2);
  }
  struct sockaddr_in *inet = (struct sockaddr_in *)address;
  inet->sin_family = AF_INET;
  inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  inet->sin_port = htons((uint16_t)atoi(text + 4));
  return sizeof *inet;
}

static int meet(int is_receiver, const char *text) {
  struct sockaddr_storage address;
  socklen_t length = address_of(text, &address);
  int yes = 1, fd = socket(address.ss_family, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  if (is_receiver) {
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 1) != 0) fail(text);
    fprintf(stderr, "listening\n");
    int peer = accept(fd, NULL, NULL);
    if (peer < 0) fail("accept");
    close(fd);
    fd = peer;
  } else {
    int tries = 0;
    while (connect(fd, (struct sockaddr *)&address, length) != 0) {
      if (++tries == 500) fail(text);
      usleep(10000);
    }
  }
  if (address.ss_family == AF_INET) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return fd;
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: net-peer send|receive ADDRESS SIZE COUNT\n");
    return 2;
  }
  int is_receiver = strcmp(argv[1], "receive") == 0;
  size_t size = strtoull(argv[3], NULL, 10);
  long count = strtol(argv[4], NULL, 10);
  // As much memory to send from as the replay has, so that caches do as much for both.
  size_t pool = size + (256 << 10);
  char *memory = aligned_alloc(4096, (pool + 4095) / 4096 * 4096);
  if (!memory) fail("memory");
  memset(memory, 0x5A, pool);
  int fd = meet(is_receiver, argv[2]);
  unsigned long long bytes = 0;
  unsigned state = 1;
  double begun = now();
  for (long i = 0; i < count; i++) {
    ssize_t moved;
    if (is_receiver) {
      moved = recv(fd, memory, size, MSG_WAITALL);
    } else {
      state = state * 1664525u + 1013904223u;
      moved = send(fd, memory + (state >> 23) * 512, size, MSG_NOSIGNAL | (i + 1 < count ? MSG_MORE : 0));
    }
    if (moved <= 0) break;
    bytes += (unsigned long long)moved;
  }
  double seconds = now() - begun;
  shutdown(fd, SHUT_WR);
  printf("{\"bytes\": %llu, \"seconds\": %.9f}\n", bytes, seconds);
  return bytes == size * (unsigned long long)count ? 0 : 1;
}
