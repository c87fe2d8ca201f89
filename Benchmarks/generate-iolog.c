// Writes a fio iolog of any length to standard output, always the same one for the same arguments.
//
//   generate-iolog REQUESTS FILE FILE_BYTES [BLOCK_BYTES [WRITE_PERCENT [INTERVAL_NS [VERSION]]]]
//
// Offsets are random multiples of the block size. Timestamps are microseconds (version 3 only), INTERVAL_NS apart,
// from 1 up: fio takes a gap after the timestamp 0 for none.
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t state = 0x9e3779b97f4a7c15u;

// splitmix64: enough for offsets, and the same everywhere.
static uint64_t next_random(void) {
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static uint64_t argument(int argc, char **argv, int index, uint64_t otherwise) {
  return index < argc ? strtoull(argv[index], NULL, 10) : otherwise;
}

int main(int argc, char **argv) {
  uint64_t requests = argument(argc, argv, 1, 0), file_bytes = argument(argc, argv, 3, 0);
  uint64_t block = argument(argc, argv, 4, 4096), writes = argument(argc, argv, 5, 0);
  uint64_t interval_ns = argument(argc, argv, 6, 10000), version = argument(argc, argv, 7, 3);
  if (requests == 0 || block == 0 || file_bytes < block || writes > 100 || (version != 2 && version != 3)) {
    fputs("usage: generate-iolog REQUESTS FILE FILE_BYTES [BLOCK_BYTES [WRITE_PERCENT [INTERVAL_NS [VERSION]]]]\n", stderr);
    return 2;
  }
  const char *file = argv[2];
  uint64_t blocks = file_bytes / block, time = 1000;
  const char *stamp = version == 3 ? "1 " : "";
  printf("fio version %" PRIu64 " iolog\n%s%s add\n%s%s open\n", version, stamp, file, stamp, file);
  for (uint64_t i = 0; i < requests; i++, time += interval_ns) {
    const char *direction = next_random() % 100 < writes ? "write" : "read";
    uint64_t offset = next_random() % blocks * block;
    if (version == 3) printf("%" PRIu64 " ", time / 1000);
    printf("%s %s %" PRIu64 " %" PRIu64 "\n", file, direction, offset, block);
  }
  if (version == 3) printf("%" PRIu64 " ", time / 1000);
  printf("%s close\n", file);
  return fflush(stdout) != 0 || ferror(stdout) != 0;
}
