// What the recorder asks of bpf(2), and the records that its programs in the kernel store.
#ifndef TRACE_BPF_H
#define TRACE_BPF_H

#include <stdint.h>

/// One event that a program in the kernel stores: the begin or the end of a system call, an io_uring request, or nothing (type 0),
/// which fills the ring to its end. The first eight bytes lie as in every event of tracefs (struct trace_entry of
/// linux/trace_events.h), so that one decoder reads both.
struct trace_call_record {
  uint16_t type;
  /// Records behind this one that hold what was read from the program's memory.
  uint16_t following;
  int32_t thread_id;
  /// CLOCK_MONOTONIC.
  uint64_t nanoseconds;
  /// Arguments of a call, or its result in the first.
  uint64_t values[6];
};

/// The part of a CPU's buffer that says what is in it. `taken` is the recorder's, the rest are the programs'; each side has a cache
/// line of its own.
struct trace_call_ring_control {
  /// Records stored since the beginning.
  uint64_t written;
  /// Events that found no room.
  uint64_t lost;
  /// One more than the number of the record behind the first loss that the recorder has not passed; 0 where there was none.
  uint64_t lost_before;
  uint64_t unused[5];
  /// Records that the recorder took out.
  uint64_t taken;
  uint64_t unused_too[7];
};

/// What the programs of all CPUs count together.
struct trace_call_shared {
  /// Events on CPUs that have no ring, since they were not there at the start.
  uint64_t lost_elsewhere;
  /// Begins of calls that 32-bit programs made and that have the number of a recorded one.
  uint64_t calls_32_bit;
  uint64_t unused[6];
};

/// An array map with one value, which mmap(2) shares between programs and this process: its descriptor, closed at exec; the negative
/// errno on failure.
int ctrace_bpf_make_memory(uint32_t bytes);
/// Loads a program for raw tracepoints, of 8 bytes an instruction: its descriptor, or the negative errno; `log` then holds what the
/// kernel's verifier says.
int ctrace_bpf_load(const uint64_t *instructions, uint32_t count, char *log, uint32_t log_bytes);
/// Attaches a loaded program to the raw tracepoint `name`: a descriptor whose close detaches it, or the negative errno.
int ctrace_bpf_attach(const char *name, int program);

#endif
