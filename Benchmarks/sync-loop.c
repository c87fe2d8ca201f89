// The peer of `trace-replay run --engine sync --speed max --order depth`: the loop that somebody would write by hand.
//
//   sync-loop convert IOLOG LIST     a fio iolog (version 2 or 3) as a binary list of requests
//   sync-loop run LIST|IOLOG TARGET  issues them one after the other, prints one line of JSON
//
// A request is one pread or pwrite, one clock_gettime and one increment in a log-linear histogram: the least that a
// replayer which reports latencies can do. The completion of a request is the start of the next one's time.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct request {
  uint64_t offset;
  uint32_t size;
  uint32_t direction; // 0 read, 1 write
};

struct list {
  struct request *requests;
  size_t count;
  uint32_t largest;
  int writes;
};

// 128 steps per power of two: the relative error is below 1 %, as in the reports of trace-replay.
enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = STEPS * (64 - STEP_BITS + 1) };
static uint64_t histogram[BUCKETS];

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("sync-loop: ", stderr);
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

static inline size_t bucket_of(uint64_t ns) {
  if (ns < STEPS) return ns;
  int shift = 63 - __builtin_clzll(ns) - STEP_BITS;
  return ((size_t)shift << STEP_BITS) + (ns >> shift);
}

static uint64_t bucket_value(size_t bucket) {
  if (bucket < 2 * STEPS) return bucket;
  int shift = (int)(bucket >> STEP_BITS) - 1;
  return (uint64_t)(bucket - ((size_t)shift << STEP_BITS)) << shift;
}

static uint64_t percentile_ns(double share, uint64_t count) {
  uint64_t rank = (uint64_t)(share * (double)count), seen = 0;
  for (size_t i = 0; i < BUCKETS; i++) {
    seen += histogram[i];
    if (seen > rank) return bucket_value(i);
  }
  return 0;
}

static const char *map_file(const char *path, size_t *length) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) fail("%s: %s", path, strerror(errno));
  *length = (size_t)status.st_size;
  if (*length == 0) fail("%s: empty", path);
  void *bytes = mmap(NULL, *length, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (bytes == MAP_FAILED) fail("%s: %s", path, strerror(errno));
  close(fd);
  return bytes;
}

static void add_request(struct list *list, size_t *capacity, struct request request) {
  if (list->count == *capacity) {
    *capacity = *capacity ? *capacity * 2 : 1 << 16;
    list->requests = realloc(list->requests, *capacity * sizeof *list->requests);
    if (!list->requests) fail("out of memory");
  }
  list->requests[list->count++] = request;
  if (request.size > list->largest) list->largest = request.size;
  list->writes |= request.direction;
}

static const char *skip_word(const char *at, const char *end) {
  while (at < end && *at != ' ' && *at != '\n') at++;
  while (at < end && *at == ' ') at++;
  return at;
}

static uint64_t number_at(const char *at, const char *end) {
  uint64_t value = 0;
  for (; at < end && *at >= '0' && *at <= '9'; at++) value = value * 10 + (uint64_t)(*at - '0');
  return value;
}

static int starts_with(const char *at, const char *end, const char *word) {
  size_t length = strlen(word);
  return (size_t)(end - at) > length && memcmp(at, word, length) == 0;
}

// "[timestamp] file read|write offset length"; file actions, waits, syncs and trims are passed over.
static struct list read_iolog(const char *at, size_t length, const char *path) {
  struct list list = {0};
  size_t capacity = 0;
  const char *end = at + length;
  int version = at[sizeof "fio version " - 1] - '0';
  if (version != 2 && version != 3) fail("%s: neither version 2 nor 3 of an iolog", path);
  while (at < end) {
    const char *line = at, *newline = memchr(at, '\n', (size_t)(end - at));
    if (!newline) newline = end;
    const char *action = skip_word(version == 3 ? skip_word(line, newline) : line, newline);
    at = newline + 1;
    int reads = starts_with(action, newline, "read ");
    if (!reads && !starts_with(action, newline, "write ")) continue;
    const char *offset = skip_word(action, newline);
    struct request request = {number_at(offset, newline), (uint32_t)number_at(skip_word(offset, newline), newline), !reads};
    add_request(&list, &capacity, request);
  }
  return list;
}

static struct list load(const char *path) {
  size_t length;
  const char *bytes = map_file(path, &length);
  if (length > sizeof "fio version 2" && memcmp(bytes, "fio version ", sizeof "fio version " - 1) == 0)
    return read_iolog(bytes, length, path);
  struct list list = {(struct request *)(uintptr_t)bytes, length / sizeof(struct request), 0, 0};
  for (size_t i = 0; i < list.count; i++) {
    if (list.requests[i].size > list.largest) list.largest = list.requests[i].size;
    list.writes |= list.requests[i].direction;
  }
  return list;
}

static int convert(const char *iolog, const char *output) {
  struct list list = load(iolog);
  FILE *file = fopen(output, "wb");
  if (!file) fail("%s: %s", output, strerror(errno));
  if (fwrite(list.requests, sizeof *list.requests, list.count, file) != list.count || fclose(file) != 0)
    fail("%s: %s", output, strerror(errno));
  return 0;
}

static uint64_t issue_all(struct list list, int fd, char *buffer) {
  uint64_t failures = 0, previous = now_ns();
  for (size_t i = 0; i < list.count; i++) {
    struct request r = list.requests[i];
    ssize_t done = r.direction ? pwrite(fd, buffer, r.size, (off_t)r.offset) : pread(fd, buffer, r.size, (off_t)r.offset);
    uint64_t time = now_ns();
    histogram[bucket_of(time - previous)]++;
    previous = time;
    failures += done != (ssize_t)r.size;
  }
  return failures;
}

static int run(const char *input, const char *target) {
  uint64_t begun = now_ns();
  struct list list = load(input);
  if (list.count == 0) fail("%s: no requests", input);
  int fd = open(target, (list.writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) fail("%s: %s", target, strerror(errno));
  char *buffer = aligned_alloc(4096, (list.largest + 4095u) & ~4095u);
  if (!buffer) fail("out of memory");
  memset(buffer, 0x5a, (list.largest + 4095u) & ~4095u);
  uint64_t started = now_ns(), failures = issue_all(list, fd, buffer), elapsed = now_ns() - started;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("{\"requests\": %zu, \"failures\": %" PRIu64 ", \"load_ns\": %" PRIu64 ", \"elapsed_ns\": %" PRIu64
         ", \"iops\": %.0f, \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64 ", \"maxrss_kib\": %ld}\n",
         list.count, failures, started - begun, elapsed, (double)list.count * 1e9 / (double)elapsed,
         percentile_ns(0.5, list.count), percentile_ns(0.99, list.count), usage.ru_maxrss);
  return failures != 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "convert") == 0) return convert(argv[2], argv[3]);
  if (argc == 4 && strcmp(argv[1], "run") == 0) return run(argv[2], argv[3]);
  fputs("usage: sync-loop convert IOLOG LIST | run LIST|IOLOG TARGET\n", stderr);
  return 2;
}
