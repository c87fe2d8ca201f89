// What a recorded call costs: times 4 KiB preads and pwrites of a memory-backed file.
//
//   record-cost [CALLS [THREADS [CALLS_PER_SECOND]]]
//
// Prints nanoseconds per call, the fastest of several rounds for each kind. Run it with and without recording; the
// difference is the cost. With a rate the threads together keep to it, as a test of loss.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define BLOCKS 256

static long calls = 2000000, threads = 1, rate = 0;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

struct outcome {
  double read_ns, write_ns, sequential_ns, seconds;
};

/// Waits until the call of this number is due.
static void keep_rate(double start, long number) {
  if (!rate || number % 16) return;
  double due = start + (double)number * threads / rate;
  while (now() < due)
    if (due - now() > 100e-6) usleep(50);
}

static double round_ns(int fd, char *buffer, int kind, long count) {
  double start = now();
  for (long i = 0; i < count; i++) {
    off_t at = (off_t)(i * 7 % BLOCKS) * BLOCK;
    ssize_t done = 0;
    if (kind == 0) done = pread(fd, buffer, BLOCK, at);
    if (kind == 1) done = pwrite(fd, buffer, BLOCK, at);
    if (kind == 2) {
      if (i % BLOCKS == 0) lseek(fd, 0, SEEK_SET);
      done = read(fd, buffer, BLOCK);
    }
    if (done != BLOCK) {
      perror("record-cost");
      exit(1);
    }
    keep_rate(start, i);
  }
  return (now() - start) * 1e9 / (double)count;
}

static void *work(void *argument) {
  struct outcome *outcome = argument;
  int fd = memfd_create("record-cost", MFD_CLOEXEC);
  char *buffer = aligned_alloc(BLOCK, BLOCK);
  for (int i = 0; i < BLOCKS; i++)
    if (pwrite(fd, buffer, BLOCK, (off_t)i * BLOCK) != BLOCK) exit(1);
  outcome->read_ns = outcome->write_ns = outcome->sequential_ns = 1e18;
  double start = now();
  int rounds = rate ? 1 : 10;
  for (int round = 0; round < rounds; round++) {
    double ns = round_ns(fd, buffer, 0, calls / (3 * rounds));
    if (ns < outcome->read_ns) outcome->read_ns = ns;
    ns = round_ns(fd, buffer, 1, calls / (3 * rounds));
    if (ns < outcome->write_ns) outcome->write_ns = ns;
    ns = round_ns(fd, buffer, 2, calls / (3 * rounds));
    if (ns < outcome->sequential_ns) outcome->sequential_ns = ns;
  }
  outcome->seconds = now() - start;
  free(buffer);
  close(fd);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc > 1) calls = atol(argv[1]);
  if (argc > 2) threads = atol(argv[2]);
  if (argc > 3) rate = atol(argv[3]);
  if (calls < 30 || threads < 1 || threads > 256) return 2;
  struct outcome outcomes[256];
  pthread_t ids[256];
  for (long i = 1; i < threads; i++) pthread_create(&ids[i], NULL, work, &outcomes[i]);
  work(&outcomes[0]);
  for (long i = 1; i < threads; i++) pthread_join(ids[i], NULL);
  double rate_sum = 0;
  for (long i = 0; i < threads; i++) rate_sum += (double)calls / outcomes[i].seconds;
  printf("pread %.1f ns  pwrite %.1f ns  read %.1f ns  calls/s %.0f\n", outcomes[0].read_ns, outcomes[0].write_ns,
         outcomes[0].sequential_ns, rate_sum);
  return 0;
}
