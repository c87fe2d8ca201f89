// The layout of the memory that traced programs share with the collector of the preload route.
//
// A run directory (mode 0700, on tmpfs) holds
//   lock      flock(2)ed by the collector as long as it lives
//   session   one `struct trace_session`, mapped by the collector and by every traced process
//   ring.N    one ring per thread: `struct trace_ring`, then `record_count` slots of 64 bytes
// A slot holds one `struct trace_record`, or 64 bytes of the definition that the record before it announced.
// Only the owning thread (and its signal handlers) moves `head`, only the collector moves `tail`.
// Times are CLOCK_MONOTONIC nanoseconds.
#ifndef TRACE_RING_H
#define TRACE_RING_H
#include <stdint.h>

#define TRACE_SESSION_MAGIC 0x6e6f697373657331ull
#define TRACE_RING_MAGIC 0x31676e6972737231ull
#define TRACE_RING_VERSION 2u
/// Names the run directory to traced processes.
#define TRACE_RUN_VARIABLE "TRACE_RECORD_RUN"

/// Bits of the map of files that several processes may have open as one description.
#define TRACE_SHARE_BITS 8192u

enum { TRACE_ON_FULL_DROP = 0, TRACE_ON_FULL_WAIT = 1 };

/// The raw values of TraceOperation, and the records that are no events.
enum trace_record_operation {
  TRACE_OP_OTHER = 0,
  TRACE_OP_READ = 1,
  TRACE_OP_WRITE = 2,
  TRACE_OP_FSYNC = 3,
  TRACE_OP_FDATASYNC = 4,
  TRACE_OP_SYNC_FILE_RANGE = 5,
  TRACE_OP_MSYNC = 6,
  TRACE_OP_TRUNCATE = 7,
  TRACE_OP_ALLOCATE = 8,
  TRACE_OP_DISCARD = 9,
  TRACE_OP_WRITE_ZEROES = 10,
  TRACE_OP_OPEN = 16,
  TRACE_OP_CLOSE = 17,
  TRACE_OP_DUPLICATE = 18,
  TRACE_OP_SEEK = 19,
  TRACE_OP_RENAME = 20,
  TRACE_OP_UNLINK = 21,
  TRACE_OP_LINK = 22,
  TRACE_OP_MAP = 24,
  TRACE_OP_UNMAP = 25,
  TRACE_OP_SEND = 32,
  TRACE_OP_RECEIVE = 33,
  TRACE_OP_CONNECT = 34,
  TRACE_OP_ACCEPT = 35,
  TRACE_OP_COPY_RANGE = 40,
  TRACE_OP_SENDFILE = 41,
  TRACE_OP_SPLICE = 42,
  /// `size` bytes of `struct trace_definition` and path follow in the next slots.
  TRACE_OP_DEFINITION = 240
};

/// The bits of TraceEventFlags that the preload recorder sets.
enum trace_record_flags {
  TRACE_FLAG_DIRECT = 1 << 0,
  TRACE_FLAG_SYNC = 1 << 1,
  TRACE_FLAG_DATA_SYNC = 1 << 2,
  TRACE_FLAG_APPEND = 1 << 3,
  TRACE_FLAG_INFERRED_OFFSET = 1 << 4,
  TRACE_FLAG_BUFFERED = 1 << 6,
  TRACE_FLAG_SEQUENTIAL = 1 << 7,
  TRACE_FLAG_HIGH_PRIORITY = 1 << 8,
  TRACE_FLAG_NO_WAIT = 1 << 9,
  TRACE_FLAG_REQUEST_DATA_SYNC = 1 << 10,
  TRACE_FLAG_REQUEST_SYNC = 1 << 11,
  TRACE_FLAG_VECTORED = 1 << 12,
  TRACE_FLAG_CREATE = 1 << 14,
  TRACE_FLAG_TRUNCATING = 1 << 15,
  TRACE_FLAG_OPEN_READ = 1 << 16,
  TRACE_FLAG_OPEN_WRITE = 1 << 17,
  TRACE_FLAG_SHARED_MAPPING = 1 << 18,
  TRACE_FLAG_WRITABLE_MAPPING = 1 << 19
};

/// The raw values of TraceFile.Kind.
enum trace_file_kind {
  TRACE_KIND_UNKNOWN = 0,
  TRACE_KIND_REGULAR = 1,
  TRACE_KIND_BLOCK = 2,
  TRACE_KIND_CHARACTER = 3,
  TRACE_KIND_DIRECTORY = 4,
  TRACE_KIND_PIPE = 5,
  TRACE_KIND_SOCKET = 6,
  TRACE_KIND_LINK = 7,
  TRACE_KIND_ANONYMOUS = 8
};

/// What a record is of. A request that completes later is two records, which the collector joins by process, context and key.
enum trace_record_phase {
  /// A finished call.
  TRACE_PHASE_CALL = 0,
  /// A request on its way. As a call, but latency_ns is its key (user_data, or the address of an iocb or aiocb), and result is
  /// its context: the description of a ring of io_uring, a context of libaio, or TRACE_CONTEXT_POSIX.
  TRACE_PHASE_SUBMISSION = 1,
  /// Its completion: start_ns is when that was seen, latency_ns the key, offset the context, flags are trace_completion_flags.
  TRACE_PHASE_COMPLETION = 2,
  /// The kernel did not take the last request with the key (latency_ns) and context (offset).
  TRACE_PHASE_WITHDRAWAL = 3
};
#define TRACE_CONTEXT_POSIX 0ull
enum trace_completion_flags {
  /// The request goes on: more completions follow.
  TRACE_COMPLETION_MORE = 1,
  /// No result: a buffer of a request that completed before is free.
  TRACE_COMPLETION_NOTICE = 2
};

#define TRACE_UNKNOWN_OFFSET UINT64_MAX
#define TRACE_UNKNOWN_SIZE UINT64_MAX
#define TRACE_UNKNOWN_BIRTH INT64_MIN
#define TRACE_NO_DESCRIPTION 0u

/// One finished call, or half of a request (trace_record_phase).
struct trace_record {
  /// Low 32 bits of the slot's running number + 1; stored last, with release order.
  uint32_t sequence;
  int32_t thread_id;
  uint64_t start_ns;
  uint64_t latency_ns;
  uint64_t offset;
  uint64_t size;
  /// The call's result, or -errno.
  int64_t result;
  /// Number of an open file description's or a name's definition; numbers start at 1 and are unique in a session.
  uint32_t description;
  uint32_t other_description;
  uint32_t flags;
  uint8_t operation;
  /// trace_record_phase.
  uint8_t phase;
  uint8_t reserved[2];
};

/// What a description number stands for; `path_bytes` bytes of path follow.
struct trace_definition {
  uint32_t description;
  uint32_t path_bytes;
  /// major << 32 | minor of the filesystem, and of the device that a device file stands for.
  uint64_t device;
  uint64_t represented_device;
  /// 0 when not known.
  uint64_t inode;
  /// Nanoseconds since 1970, or TRACE_UNKNOWN_BIRTH.
  int64_t birth_ns;
  /// TRACE_UNKNOWN_SIZE when not known.
  uint64_t size;
  /// open(2) flags; UINT32_MAX when not known.
  uint32_t open_flags;
  uint32_t kind;
  uint64_t filesystem_type;
};

/// The first page of a ring file. Each group of fields that one side writes has cache lines of its own.
struct trace_ring {
  uint64_t magic;
  uint32_t version;
  uint32_t number;
  uint32_t record_count;
  int32_t process_id;
  /// Owner at present, 0 while no thread has the ring.
  int32_t thread_id;
  /// 1 when the process lives in another PID namespace than the collector, who can't look it up then.
  uint32_t foreign_processes;
  uint64_t reserved1[4];
  // Producer.
  uint64_t head;
  /// 0: no call in flight; 1: a call is about to read its start time; else the start time of the outermost call.
  uint64_t in_flight_ns;
  uint64_t dropped;
  uint64_t drop_first_ns, drop_last_ns;
  /// Records may be numbered up to here without a look at `tail`; slots that have memory, until all have.
  uint64_t limit, allocated;
  uint64_t reserved2;
  // Collector.
  uint64_t tail;
  /// Value of `dropped` that the collector has accounted for.
  uint64_t dropped_seen;
  uint64_t reserved3[6];
};
#define TRACE_RING_HEADER_BYTES 4096u

/// Why a library is not loaded into a program.
enum trace_escape_reason {
  TRACE_ESCAPE_STATIC = 1,
  TRACE_ESCAPE_PRIVILEGES = 2,
  TRACE_ESCAPE_ARCHITECTURE = 3,
  TRACE_ESCAPE_LIBC = 4,
  /// The library can't be reached from the program's root directory.
  TRACE_ESCAPE_ROOT = 5
};

/// A program that a recorded process started and that escapes the recorder.
struct trace_escape {
  /// 0 free, 1 being filled, 2 valid.
  uint32_t state;
  uint32_t reason;
  uint64_t starts;
  /// Ends with a zero byte.
  char path[240];
};
#define TRACE_ESCAPES 32u

struct trace_session {
  uint64_t magic;
  uint32_t version;
  int32_t collector_pid;
  /// 1 while events are wanted. The recorder clears it when it ends, a traced program when it finds the recorder dead.
  uint32_t active;
  uint32_t on_full;
  /// Slots of a ring, a power of two.
  uint32_t record_count;
  /// Raised whenever bits of `share_map` are set.
  uint32_t share_epoch;
  /// Inode of the collector's PID namespace.
  uint64_t process_namespace;
  uint64_t reserved0[3];
  // Written by all.
  uint32_t next_ring;
  uint32_t next_description;
  /// Processes that attached, and that began to end (so that the collector looks for dead rings at once).
  uint32_t processes_attached, processes_ending;
  /// Threads that could not get a ring, the calls that they made unrecorded, and when.
  uint32_t threads_without_ring, reserved1;
  uint64_t calls_without_ring;
  uint64_t without_ring_first_ns, without_ring_last_ns;
  /// Blind spots that were met.
  uint64_t stdio_streams, vforks;
  /// Rings of io_uring, those among them that a kernel thread polls, and those that could not be looked into.
  uint64_t uring_rings, uring_polled_rings, uring_hidden_rings;
  /// Requests that the kernel took from rings between two calls that this library saw, and completions that were gone.
  uint64_t uring_unseen_requests, unseen_completions;
  uint64_t reserved2[2];
  /// Programs that were started and can't be recorded, and how many more there was no room for.
  uint64_t escapes_beyond;
  struct trace_escape escapes[TRACE_ESCAPES];
  /// Bit trace_share_bit(device, inode) says that some process inherited the file at exec.
  uint64_t share_map[TRACE_SHARE_BITS / 64];
};

static inline uint32_t trace_share_bit(uint64_t device, uint64_t inode) {
  return (uint32_t)(((device * 0x9e3779b97f4a7c15ull) ^ (inode * 0xff51afd7ed558ccdull)) >> 40) % TRACE_SHARE_BITS;
}

/// Slots that records leave free for definitions, so that an overload does not cost names.
static inline uint32_t trace_ring_headroom(uint32_t record_count) {
  return record_count / 16 > 128 ? record_count / 16 : 128;
}

_Static_assert(sizeof(struct trace_record) == 64, "a record is a slot");
_Static_assert(sizeof(struct trace_definition) == 64, "a definition's fixed part is a slot");
_Static_assert(sizeof(struct trace_ring) == 192, "three cache lines");
#endif
