// What a call costs while a recorder is attached: times 4 KiB preads of a memory-backed file.
//
//   attach-cost START_FILE SECONDS
//
// Waits until START_FILE is there, so that a recorder can attach first. Prints nanoseconds per call, the fastest of many
// rounds of 20 calls: short ones, since the machine may be busy with something else.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  char block[4096] = {0};
  int fd = memfd_create("attach-cost", MFD_CLOEXEC);
  if (fd < 0 || pwrite(fd, block, sizeof block, 0) != sizeof block) return 1;
  while (access(argv[1], F_OK)) usleep(1000);
  double end = now() + atof(argv[2]), best = 1e9;
  while (now() < end) {
    double start = now();
    for (int i = 0; i < 20; i++)
      if (pread(fd, block, sizeof block, 0) != sizeof block) return 1;
    double taken = now() - start;
    if (taken < best) best = taken;
  }
  printf("%.1f\n", best * 1e9 / 20);
  return 0;
}
