// The peers of the engines that keep requests in flight, and of splice: the loops that somebody would write by hand.
//
//   engine-loop libaio|io_uring|splice LIST TARGET [DEPTH [direct]]
//
// LIST is what `sync-loop convert` writes. A loop keeps DEPTH requests in flight, hands over what is free in one batch, and takes
// what has completed; a request is one time stamp and one increment in a log-linear histogram. Prints one line of JSON.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libaio.h>
#include <liburing.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct request {
  uint64_t offset;
  uint32_t size;
  uint32_t direction; // 0 read, 1 write
};

enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = STEPS * (64 - STEP_BITS + 1), MAXIMUM_DEPTH = 4096 };
static uint64_t histogram[BUCKETS], begun[MAXIMUM_DEPTH], failures;
static const struct request *requests;
static size_t count;
static char *buffers;
static uint32_t largest;
static int target, depth = 1;

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("engine-loop: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void record(uint64_t ns) {
  if (ns < STEPS) {
    histogram[ns]++;
    return;
  }
  int shift = 63 - __builtin_clzll(ns) - STEP_BITS;
  histogram[((size_t)shift << STEP_BITS) + (ns >> shift)]++;
}

static inline void finish(unsigned slot, long result, uint32_t size) {
  record(now_ns() - begun[slot]);
  failures += result != (long)size;
}

static void load(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) fail("%s: %s", path, strerror(errno));
  requests = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (requests == MAP_FAILED) fail("%s: %s", path, strerror(errno));
  count = (size_t)status.st_size / sizeof *requests;
  for (size_t i = 0; i < count; i++)
    if (requests[i].size > largest) largest = requests[i].size;
  largest = (largest + 4095u) & ~4095u;
  buffers = aligned_alloc(4096, (size_t)largest * (size_t)depth);
  if (!buffers) fail("out of memory");
  memset(buffers, 0x5a, (size_t)largest * (size_t)depth);
}

static char *buffer_of(unsigned slot) { return buffers + (size_t)slot * largest; }

static void run_libaio(void) {
  io_context_t context = 0;
  if (io_setup(depth, &context) != 0) fail("io_setup failed");
  static struct iocb blocks[MAXIMUM_DEPTH], *batch[MAXIMUM_DEPTH];
  static struct io_event events[MAXIMUM_DEPTH];
  static unsigned free_slots[MAXIMUM_DEPTH];
  int free_count = depth;
  for (int i = 0; i < depth; i++) free_slots[i] = (unsigned)(depth - 1 - i);
  size_t next = 0, done = 0;
  uint64_t time = now_ns();
  while (done < count) {
    int queued = 0;
    while (free_count > 0 && next < count) {
      unsigned slot = free_slots[--free_count];
      const struct request *r = &requests[next++];
      if (r->direction)
        io_prep_pwrite(&blocks[slot], target, buffer_of(slot), r->size, (long long)r->offset);
      else
        io_prep_pread(&blocks[slot], target, buffer_of(slot), r->size, (long long)r->offset);
      blocks[slot].data = (void *)(uintptr_t)slot;
      begun[slot] = time;
      batch[queued++] = &blocks[slot];
    }
    for (int sent = 0; sent < queued;) {
      int taken = io_submit(context, queued - sent, batch + sent);
      if (taken <= 0) fail("io_submit: %s", strerror(-taken));
      sent += taken;
    }
    int got = io_getevents(context, 1, depth, events, NULL);
    if (got < 0) fail("io_getevents: %s", strerror(-got));
    for (int i = 0; i < got; i++) {
      unsigned slot = (unsigned)(uintptr_t)events[i].data;
      finish(slot, (long)events[i].res, (uint32_t)blocks[slot].u.c.nbytes);
      free_slots[free_count++] = slot;
    }
    done += (size_t)got;
    time = now_ns();
  }
}

static void run_uring(void) {
  struct io_uring ring;
  unsigned entries = 1;
  while (entries < (unsigned)depth) entries *= 2;
  int code = io_uring_queue_init(entries, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  if (code != 0) fail("io_uring: %s", strerror(-code));
  int fixed = io_uring_register_files(&ring, &target, 1) == 0;
  static unsigned free_slots[MAXIMUM_DEPTH];
  static uint32_t sizes[MAXIMUM_DEPTH];
  int free_count = depth;
  for (int i = 0; i < depth; i++) free_slots[i] = (unsigned)(depth - 1 - i);
  size_t next = 0, done = 0;
  uint64_t time = now_ns();
  while (done < count) {
    while (free_count > 0 && next < count) {
      struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
      unsigned slot = free_slots[--free_count];
      const struct request *r = &requests[next++];
      if (r->direction)
        io_uring_prep_write(entry, fixed ? 0 : target, buffer_of(slot), r->size, r->offset);
      else
        io_uring_prep_read(entry, fixed ? 0 : target, buffer_of(slot), r->size, r->offset);
      if (fixed) entry->flags |= IOSQE_FIXED_FILE;
      entry->user_data = slot;
      sizes[slot] = r->size;
      begun[slot] = time;
    }
    if (io_uring_submit_and_wait(&ring, 1) < 0) fail("io_uring_submit_and_wait failed");
    struct io_uring_cqe *completion;
    unsigned head, got = 0;
    io_uring_for_each_cqe(&ring, head, completion) {
      unsigned slot = (unsigned)completion->user_data;
      finish(slot, completion->res, sizes[slot]);
      free_slots[free_count++] = slot;
      got++;
    }
    io_uring_cq_advance(&ring, got);
    done += got;
    time = now_ns();
  }
}

// As the splice engine does it on this kernel: file to pipe, pipe to memory by vmsplice, or by read where the kernel has no
// vmsplice to memory; memory to pipe by vmsplice, pipe to file.
static void run_splice(void) {
  int ends[2], by_read = 0;
  if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe: %s", strerror(errno));
  fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
  uint64_t time = now_ns();
  for (size_t i = 0; i < count; i++) {
    const struct request *r = &requests[i];
    loff_t offset = (loff_t)r->offset;
    uint32_t done = 0;
    begun[0] = time;
    while (done < r->size) {
      struct iovec piece = {buffers + done, r->size - done};
      ssize_t moved;
      if (r->direction) {
        moved = vmsplice(ends[1], &piece, 1, 0);
        if (moved <= 0) fail("vmsplice: %s", strerror(errno));
        for (ssize_t left = moved; left > 0;) {
          ssize_t out = splice(ends[0], NULL, target, &offset, (size_t)left, 0);
          if (out <= 0) fail("splice: %s", strerror(errno));
          left -= out;
        }
      } else {
        moved = splice(target, &offset, ends[1], NULL, r->size - done, 0);
        if (moved <= 0) fail("splice: %s", strerror(errno));
        for (ssize_t left = moved; left > 0;) {
          struct iovec rest = {buffers + done + (moved - left), (size_t)left};
          ssize_t in = by_read ? read(ends[0], rest.iov_base, rest.iov_len) : vmsplice(ends[0], &rest, 1, 0);
          if (in < 0 && !by_read && (errno == EBADF || errno == EFAULT)) {
            by_read = 1;
            continue;
          }
          if (in <= 0) fail("out of the pipe: %s", strerror(errno));
          left -= in;
        }
      }
      done += (uint32_t)moved;
    }
    time = now_ns();
    record(time - begun[0]);
  }
}

int main(int argc, char **argv) {
  if (argc < 4 || argc > 6) {
    fputs("usage: engine-loop libaio|io_uring|splice LIST TARGET [DEPTH [direct]]\n", stderr);
    return 2;
  }
  if (argc > 4) depth = atoi(argv[4]);
  if (depth < 1 || depth > MAXIMUM_DEPTH) fail("depth: 1 to %d", MAXIMUM_DEPTH);
  load(argv[2]);
  target = open(argv[3], O_RDWR | O_CLOEXEC | (argc > 5 ? O_DIRECT : 0));
  if (target < 0) fail("%s: %s", argv[3], strerror(errno));
  uint64_t started = now_ns();
  if (strcmp(argv[1], "libaio") == 0)
    run_libaio();
  else if (strcmp(argv[1], "io_uring") == 0)
    run_uring();
  else if (strcmp(argv[1], "splice") == 0)
    run_splice();
  else
    fail("%s: no such engine", argv[1]);
  uint64_t elapsed = now_ns() - started;
  printf("{\"requests\": %zu, \"failures\": %" PRIu64 ", \"elapsed_ns\": %" PRIu64 ", \"iops\": %.0f}\n", count, failures, elapsed,
         (double)count * 1e9 / (double)elapsed);
  return failures != 0;
}
