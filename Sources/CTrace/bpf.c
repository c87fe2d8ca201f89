#define _GNU_SOURCE
#include "trace_bpf.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(struct trace_call_record) == 64, "the programs store records of one cache line");
_Static_assert(sizeof(struct trace_call_ring_control) == 128, "the programs find a CPU's control by its number");

// Descriptors of bpf(2) are closed at exec without being asked to be.
static int bpf(enum bpf_cmd command, union bpf_attr *attributes) {
  long result = syscall(SYS_bpf, command, attributes, sizeof *attributes);
  return result < 0 ? -errno : (int)result;
}

int ctrace_bpf_make_memory(uint32_t bytes) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = 4;
  attributes.value_size = bytes;
  attributes.max_entries = 1;
  attributes.map_flags = BPF_F_MMAPABLE;
  return bpf(BPF_MAP_CREATE, &attributes);
}

int ctrace_bpf_load(const uint64_t *instructions, uint32_t count, char *log, uint32_t log_bytes) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
  attributes.insns = (uint64_t)(uintptr_t)instructions;
  attributes.insn_cnt = count;
  // Reading the kernel's structures is for programs under the GPL; those of this project may be used under it.
  attributes.license = (uint64_t)(uintptr_t) "GPL";
  attributes.log_buf = (uint64_t)(uintptr_t)log;
  attributes.log_size = log_bytes;
  attributes.log_level = log_bytes > 0 ? 1 : 0;
  return bpf(BPF_PROG_LOAD, &attributes);
}

int ctrace_bpf_attach(const char *name, int program) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.raw_tracepoint.name = (uint64_t)(uintptr_t)name;
  attributes.raw_tracepoint.prog_fd = (uint32_t)program;
  return bpf(BPF_RAW_TRACEPOINT_OPEN, &attributes);
}
