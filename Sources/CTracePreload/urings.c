// io_uring: requests are read in the submission queue before they are submitted, completions in the completion queue at every
// call that this library sees, by liburing's exported functions or by number. What a program submits without such a call (its
// own system call instruction, a queue that a kernel thread polls) is counted from the queue's head, and not seen.
#include "preload.h"
#include <linux/io_uring.h>
#include <linux/openat2.h>

/// The beginning of liburing's `struct io_uring`, which its versions since 2.0 share.
struct liburing_ring {
  struct {
    unsigned *khead, *ktail, *kring_mask, *kring_entries, *kflags, *kdropped, *array;
    struct io_uring_sqe *sqes;
    unsigned sqe_head, sqe_tail;
    size_t ring_sz;
    void *ring_ptr;
    unsigned pad[4];
  } sq;
  struct {
    unsigned *khead, *ktail, *kring_mask, *kring_entries, *kflags, *koverflow;
    struct io_uring_cqe *cqes;
    size_t ring_sz;
    void *ring_ptr;
    unsigned pad[4];
  } cq;
  unsigned flags;
  int ring_fd;
};
_Static_assert(offsetof(struct liburing_ring, ring_fd) == 196, "as liburing has it");

#define SETUP_NO_MMAP (1u << 14)
#define SETUP_NO_SQARRAY (1u << 16)
#define SETUP_CQE_MIXED (1u << 18)
#define COMPLETION_IS_LONG (1u << 15)
#define REGISTER_OPERATION_MASK 0x7fffffffu

struct fixed_file {
  uint32_t id, flags;
};

struct uring {
  uint32_t used;
  /// Number of the ring's own description: the context of its requests.
  uint32_t id;
  uint32_t setup_flags;
  const unsigned *sq_head, *sq_tail, *sq_array;
  const char *sqes;
  unsigned sq_mask;
  const unsigned *cq_tail;
  const char *cqes;
  unsigned cq_mask;
  /// Position of the submission queue up to which requests are known, and of the completion queue.
  uint32_t published, looked;
  struct io_sqring_offsets sq_offsets;
  struct io_cqring_offsets cq_offsets;
  unsigned sq_entries, cq_entries;
  /// Where a program that brings its own liburing mapped the parts.
  const char *sq_map, *cq_map;
  struct fixed_file *fixed;
  uint32_t fixed_count;
};
#define MAX_URINGS 512u
#define MAX_FIXED_FILES (1u << 20)
static struct uring urings[MAX_URINGS];
uint32_t urings_in_use;

// ---- Rings ------------------------------------------------------------------------------------------------------------------

static struct uring *uring_of(struct description *description) {
  return description && description->uring ? &urings[description->uring - 1] : NULL;
}

static struct uring *new_uring(struct description *description, uint32_t setup_flags) {
  for (uint32_t i = 0; i < MAX_URINGS; i++) {
    uint32_t none = 0;
    if (!__atomic_compare_exchange_n(&urings[i].used, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
    struct uring *uring = &urings[i];
    memset((char *)uring + sizeof uring->used, 0, sizeof *uring - sizeof uring->used);
    uring->id = description->id;
    uring->setup_flags = setup_flags;
    description->uring = i + 1;
    __atomic_fetch_add(&urings_in_use, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&session->uring_rings, 1, __ATOMIC_RELAXED);
    if (setup_flags & IORING_SETUP_SQPOLL) __atomic_fetch_add(&session->uring_polled_rings, 1, __ATOMIC_RELAXED);
    return uring;
  }
  __atomic_fetch_add(&session->uring_hidden_rings, 1, __ATOMIC_RELAXED);
  return NULL;
}

/// What a program did not tell by a call: requests that left the queue since the last look.
static void account_unseen(struct uring *uring) {
  if (!uring->sq_head) return;
  uint32_t head = __atomic_load_n(uring->sq_head, __ATOMIC_ACQUIRE);
  int32_t unseen = (int32_t)(head - uring->published);
  if (unseen <= 0) return;
  __atomic_fetch_add(&session->uring_unseen_requests, (uint64_t)unseen, __ATOMIC_RELAXED);
  uring->published = head;
}

static void look_at_completions(struct uring *uring, uint64_t seen_ns);

void uring_is_closed(struct description *description) {
  struct uring *uring = uring_of(description);
  if (!uring) return;
  description->uring = 0;
  if (recording()) look_at_completions(uring, now_ns());
  account_unseen(uring);
  uring->sq_head = uring->cq_tail = NULL;
  if (uring->fixed) RAW(SYS_munmap, uring->fixed, MAX_FIXED_FILES * sizeof *uring->fixed);
  uring->fixed = NULL;
  __atomic_fetch_sub(&urings_in_use, 1, __ATOMIC_RELAXED);
  __atomic_store_n(&uring->used, 0, __ATOMIC_RELEASE);
}

void uring_is_unmapped(const void *address) {
  for (uint32_t i = 0; i < MAX_URINGS; i++) {
    struct uring *uring = &urings[i];
    if (!uring->used || !address || (uring->sq_map != address && uring->cq_map != address && uring->sqes != address)) continue;
    if (recording()) look_at_completions(uring, now_ns());
    account_unseen(uring);
    uring->sq_head = uring->cq_tail = NULL;
  }
}

void account_urings_at_exit(void) {
  if (!urings_in_use || !*same_process || !recording()) return;
  for (uint32_t i = 0; i < MAX_URINGS; i++) {
    if (!urings[i].used) continue;
    look_at_completions(&urings[i], now_ns());
    account_unseen(&urings[i]);
  }
}

/// In a forked child the rings' memory may be gone (madvise(2), MADV_DONTFORK); one that it uses is taken in anew.
void forget_urings(void) {
  if (!urings_in_use) return;
  for (uint32_t i = 0; i < MAX_URINGS; i++) urings[i].used = 0;
  for (int fd = 0; fd < 4096; fd++) {
    struct description *description = known_description(fd);
    if (description) description->uring = 0;
  }
  urings_in_use = 0;
}

/// Takes in where liburing has the queues; it may have moved them (io_uring_resize_rings).
static struct uring *take_in_ring(const struct liburing_ring *ring) {
  struct description *description = ring ? description_of(ring->ring_fd) : NULL;
  if (!description || !ring->sq.khead || !ring->cq.ktail) return NULL;
  struct uring *uring = uring_of(description);
  bool is_new = !uring;
  if (is_new && !(uring = new_uring(description, ring->flags))) return NULL;
  uring->sq_head = ring->sq.khead;
  uring->sq_tail = ring->sq.ktail;
  uring->sq_array = ring->flags & SETUP_NO_SQARRAY ? NULL : ring->sq.array;
  uring->sqes = (const char *)ring->sq.sqes;
  uring->sq_mask = *ring->sq.kring_mask;
  uring->cq_tail = ring->cq.ktail;
  uring->cqes = (const char *)ring->cq.cqes;
  uring->cq_mask = *ring->cq.kring_mask;
  if (is_new) {
    // What went before was another process's, or is counted from the first request on.
    uring->published = __atomic_load_n(uring->sq_head, __ATOMIC_ACQUIRE);
    uring->looked = __atomic_load_n(uring->cq_tail, __ATOMIC_ACQUIRE);
  }
  return uring;
}

bool uring_was_mapped(struct description *description, void *address, uint64_t offset) {
  struct uring *uring = uring_of(description);
  if (!uring) return false;
  const char *map = address;
  if (offset == IORING_OFF_SQ_RING) {
    uring->sq_map = map;
    uring->sq_tail = (const unsigned *)(map + uring->sq_offsets.tail);
    uring->sq_array = uring->setup_flags & SETUP_NO_SQARRAY ? NULL : (const unsigned *)(map + uring->sq_offsets.array);
    uring->sq_mask = uring->sq_entries - 1;
  }
  // Kernels with IORING_FEAT_SINGLE_MMAP have both queues in one mapping; an older one's second mapping comes later.
  if (offset == IORING_OFF_CQ_RING || (offset == IORING_OFF_SQ_RING && !uring->cq_map)) {
    uring->cq_map = map;
    uring->cqes = map + uring->cq_offsets.cqes;
    uring->cq_mask = uring->cq_entries - 1;
    __atomic_store_n(&uring->cq_tail, (const unsigned *)(map + uring->cq_offsets.tail), __ATOMIC_RELEASE);
  }
  if (offset == IORING_OFF_SQES) uring->sqes = map;
  if (uring->sq_map && uring->sqes)
    __atomic_store_n(&uring->sq_head, (const unsigned *)(uring->sq_map + uring->sq_offsets.head), __ATOMIC_RELEASE);
  return true;
}

// ---- Completions ------------------------------------------------------------------------------------------------------------

static void look_at_completions(struct uring *uring, uint64_t seen_ns) {
  if (!uring->cq_tail) return;
  uint32_t tail = __atomic_load_n(uring->cq_tail, __ATOMIC_ACQUIRE);
  uint32_t from = __atomic_load_n(&uring->looked, __ATOMIC_RELAXED);
  // Two threads may look at once; each entry is one's.
  do {
    if ((int32_t)(tail - from) <= 0) return;
  } while (!__atomic_compare_exchange_n(&uring->looked, &from, tail, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
  uint32_t shift = uring->setup_flags & IORING_SETUP_CQE32 ? 5 : 4;
  uint64_t gone = 0;
  for (uint32_t at = from; at != tail; at++) {
    struct io_uring_cqe entry;
    memcpy(&entry, uring->cqes + ((size_t)(at & uring->cq_mask) << shift), 16);
    // The program may have taken it, and the kernel have used its place again.
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(uring->cq_tail, __ATOMIC_RELAXED) - at > uring->cq_mask + 1) {
      gone++;
      continue;
    }
    uint32_t flags = entry.flags & IORING_CQE_F_MORE ? TRACE_COMPLETION_MORE : 0;
    if (entry.flags & IORING_CQE_F_NOTIF) flags |= TRACE_COMPLETION_NOTICE;
    publish_completion(uring->id, entry.user_data, entry.res, seen_ns, flags);
    if (uring->setup_flags & SETUP_CQE_MIXED && entry.flags & COMPLETION_IS_LONG && at + 1 != tail) at++;
  }
  if (gone) __atomic_fetch_add(&session->unseen_completions, gone, __ATOMIC_RELAXED);
}

// ---- Requests ---------------------------------------------------------------------------------------------------------------

/// Operations that newer headers name.
enum { READ_MULTISHOT = 49, FTRUNCATE = 55, READV_FIXED = 60, WRITEV_FIXED = 61 };

static void take_file(struct uring *uring, const struct io_uring_sqe *sqe, struct request *request) {
  if (sqe->flags & IOSQE_FIXED_FILE) {
    uint32_t slot = (uint32_t)sqe->fd;
    if (!uring->fixed || slot >= uring->fixed_count) return;
    request->id = uring->fixed[slot].id;
    request->flags |= uring->fixed[slot].flags;
    return;
  }
  struct description *description = description_of(sqe->fd);
  if (!description) return;
  request->id = description->id;
  request->flags |= description->flags;
}

static void take_transfer(struct uring *uring, const struct io_uring_sqe *sqe, struct request *request, bool vectored) {
  take_file(uring, sqe, request);
  request->flags |= flags_of_request((int)sqe->rw_flags);
  if (vectored) request->flags |= TRACE_FLAG_VECTORED;
  request->size = vectored ? bytes_of_vector(sqe->addr, sqe->len) : sqe->len;
  if (sqe->off == UINT64_MAX) {
    // The position, which the kernel moves when the request is made.
    request->flags |= TRACE_FLAG_SEQUENTIAL;
    struct description *description = sqe->flags & IOSQE_FIXED_FILE ? NULL : known_description(sqe->fd);
    if (description) mark_shared(description);
  } else if (request->operation == TRACE_OP_WRITE && request->flags & TRACE_FLAG_APPEND) {
    request->flags |= TRACE_FLAG_INFERRED_OFFSET;
  } else {
    request->offset = sqe->off;
  }
}

static void take_message(struct uring *uring, const struct io_uring_sqe *sqe, struct request *request) {
  take_file(uring, sqe, request);
  request->flags |= TRACE_FLAG_VECTORED;
  const struct msghdr *message = (const struct msghdr *)sqe->addr;
  if (sqe->addr >= 4096) request->size = bytes_of_vector((uint64_t)message->msg_iov, message->msg_iovlen);
}

static void take_open(const struct io_uring_sqe *sqe, struct request *request) {
  int flags = (int)sqe->open_flags;
  if (sqe->opcode == IORING_OP_OPENAT2) {
    if (sqe->addr2 < 4096) return;
    flags = (int)((const struct open_how *)sqe->addr2)->flags;
  }
  request->flags |= open_event_flags(flags);
  if (sqe->addr >= 4096) request->id = define_name(sqe->fd, (const char *)sqe->addr, NULL);
}

static void take_two_names(const struct io_uring_sqe *sqe, struct request *request) {
  if (sqe->addr >= 4096) request->id = define_name(sqe->fd, (const char *)sqe->addr, NULL);
  if (sqe->addr2 >= 4096) request->other = define_name((int)sqe->len, (const char *)sqe->addr2, NULL);
}

/// The pipe or file that is read stands in splice_fd_in, the other in fd.
static void take_splice(struct uring *uring, const struct io_uring_sqe *sqe, struct request *request) {
  struct io_uring_sqe in = {.fd = sqe->splice_fd_in, .flags = sqe->splice_flags & SPLICE_F_FD_IN_FIXED ? IOSQE_FIXED_FILE : 0};
  struct request target = {0};
  take_file(uring, &in, request);
  take_file(uring, sqe, &target);
  request->other = target.id;
  request->size = sqe->len;
  if (sqe->opcode == IORING_OP_SPLICE && sqe->splice_off_in != UINT64_MAX) request->offset = sqe->splice_off_in;
}

static void take_connect(struct uring *uring, const struct io_uring_sqe *sqe, struct request *request) {
  take_file(uring, sqe, request);
  struct description *description = sqe->flags & IOSQE_FIXED_FILE ? NULL : known_description(sqe->fd);
  uint32_t id = description && sqe->addr >= 4096 ? define_peer_address(sqe->fd, (const void *)sqe->addr, (uint32_t)sqe->off) : 0;
  if (id) description->id = request->id = id;
}

static void take_close(struct uring *uring, const struct io_uring_sqe *sqe, struct request *request) {
  if (sqe->file_index) {
    if (uring->fixed && sqe->file_index <= uring->fixed_count) request->id = uring->fixed[sqe->file_index - 1].id;
    return;
  }
  take_file(uring, sqe, request);
  forget_descriptor(sqe->fd);
}

static struct request request_of_sqe(struct uring *uring, const struct io_uring_sqe *sqe) {
  struct request request = {
    .context = uring->id, .key = sqe->user_data, .offset = TRACE_UNKNOWN_OFFSET, .size = TRACE_UNKNOWN_SIZE,
    .operation = TRACE_OP_OTHER};
  switch (sqe->opcode) {
    case IORING_OP_READ:
    case IORING_OP_READ_FIXED:
    case READ_MULTISHOT:
      request.operation = TRACE_OP_READ;
      take_transfer(uring, sqe, &request, false);
      break;
    case IORING_OP_READV:
    case READV_FIXED:
      request.operation = TRACE_OP_READ;
      take_transfer(uring, sqe, &request, true);
      break;
    case IORING_OP_WRITE:
    case IORING_OP_WRITE_FIXED:
      request.operation = TRACE_OP_WRITE;
      take_transfer(uring, sqe, &request, false);
      break;
    case IORING_OP_WRITEV:
    case WRITEV_FIXED:
      request.operation = TRACE_OP_WRITE;
      take_transfer(uring, sqe, &request, true);
      break;
    case IORING_OP_FSYNC:
      request.operation = sqe->fsync_flags & IORING_FSYNC_DATASYNC ? TRACE_OP_FDATASYNC : TRACE_OP_FSYNC;
      take_file(uring, sqe, &request);
      break;
    case IORING_OP_SYNC_FILE_RANGE:
      request.operation = TRACE_OP_SYNC_FILE_RANGE;
      take_file(uring, sqe, &request);
      request.offset = sqe->off;
      request.size = sqe->len;
      break;
    case IORING_OP_FALLOCATE:
      request.operation = allocate_operation((int)sqe->len);
      take_file(uring, sqe, &request);
      request.offset = sqe->off;
      request.size = sqe->addr;
      break;
    case FTRUNCATE:
      request.operation = TRACE_OP_TRUNCATE;
      take_file(uring, sqe, &request);
      request.offset = sqe->off;
      break;
    case IORING_OP_SEND:
    case IORING_OP_SEND_ZC:
    case IORING_OP_RECV:
      request.operation = sqe->opcode == IORING_OP_RECV ? TRACE_OP_RECEIVE : TRACE_OP_SEND;
      take_file(uring, sqe, &request);
      request.size = sqe->len;
      break;
    case IORING_OP_SENDMSG:
    case IORING_OP_SENDMSG_ZC:
    case IORING_OP_RECVMSG:
      request.operation = sqe->opcode == IORING_OP_RECVMSG ? TRACE_OP_RECEIVE : TRACE_OP_SEND;
      take_message(uring, sqe, &request);
      break;
    case IORING_OP_ACCEPT:
      request.operation = TRACE_OP_ACCEPT;
      take_file(uring, sqe, &request);
      break;
    case IORING_OP_CONNECT:
      request.operation = TRACE_OP_CONNECT;
      take_connect(uring, sqe, &request);
      break;
    case IORING_OP_OPENAT:
    case IORING_OP_OPENAT2:
      request.operation = TRACE_OP_OPEN;
      take_open(sqe, &request);
      break;
    case IORING_OP_CLOSE:
      request.operation = TRACE_OP_CLOSE;
      take_close(uring, sqe, &request);
      break;
    case IORING_OP_SPLICE:
    case IORING_OP_TEE:
      request.operation = sqe->opcode == IORING_OP_SPLICE ? TRACE_OP_SPLICE : TRACE_OP_OTHER;
      take_splice(uring, sqe, &request);
      break;
    case IORING_OP_RENAMEAT:
    case IORING_OP_LINKAT:
      request.operation = sqe->opcode == IORING_OP_RENAMEAT ? TRACE_OP_RENAME : TRACE_OP_LINK;
      take_two_names(sqe, &request);
      break;
    case IORING_OP_UNLINKAT:
      request.operation = TRACE_OP_UNLINK;
      if (sqe->addr >= 4096) request.id = define_name(sqe->fd, (const char *)sqe->addr, NULL);
      break;
    case IORING_OP_POLL_ADD:
    case IORING_OP_FADVISE:
    case IORING_OP_SHUTDOWN:
    case IORING_OP_URING_CMD:
      take_file(uring, sqe, &request);
      break;
    default: break;
  }
  return request;
}

static const struct io_uring_sqe *sqe_at(struct uring *uring, uint32_t position, uint32_t queued) {
  uint32_t index = position & uring->sq_mask;
  // liburing fills the array when it queues; what it has not queued yet will stand in order.
  if (uring->sq_array && (int32_t)(queued - position) > 0) index = uring->sq_array[index] & uring->sq_mask;
  return (const struct io_uring_sqe *)(uring->sqes + ((size_t)index << (uring->setup_flags & IORING_SETUP_SQE128 ? 7 : 6)));
}

// ---- The calls --------------------------------------------------------------------------------------------------------------

/// A call that may submit, between its start and its end.
struct submission {
  struct uring *uring;
  uint32_t end, queued;
};

/// Publishes the requests up to position `end` of the submission queue, `queued` of which the queue's tail covers.
static void begin_submission(struct submission *submission, struct uring *uring, uint32_t end) {
  submission->uring = uring;
  submission->queued = __atomic_load_n(uring->sq_tail, __ATOMIC_RELAXED);
  submission->end = end;
  account_unseen(uring);
  if ((int32_t)(end - uring->published) <= 0 || end - uring->published > uring->sq_mask + 1) return;
  struct call call;
  // Files that are seen for the first time are looked up before the clock starts.
  for (uint32_t at = uring->published; at != end; at++) {
    const struct io_uring_sqe *sqe = sqe_at(uring, at, submission->queued);
    if (!(sqe->flags & IOSQE_FIXED_FILE) && sqe->fd >= 0) description_of(sqe->fd);
  }
  if (!begin_named_call(&call)) return;
  for (uint32_t at = uring->published; at != end; at++) {
    struct request request = request_of_sqe(uring, sqe_at(uring, at, submission->queued));
    publish_submission(&request, call.start_ns);
  }
  uring->published = end;
  abandon_call(&call);
}

static void finish_submission(struct submission *submission) {
  struct uring *uring = submission->uring;
  // A kernel thread takes the requests in its own time, all of them.
  if (uring->sq_head && !(uring->setup_flags & IORING_SETUP_SQPOLL)) {
    uint32_t head = __atomic_load_n(uring->sq_head, __ATOMIC_ACQUIRE);
    for (uint32_t at = head; (int32_t)(submission->end - at) > 0; at++)
      publish_withdrawal(uring->id, sqe_at(uring, at, submission->queued)->user_data);
    if ((int32_t)(submission->end - head) > 0) uring->published = head;
  }
  look_at_completions(uring, now_ns());
}

static bool begin_ring_call(struct submission *submission, struct liburing_ring *ring, bool submits) {
  struct uring *uring;
  if (!recording() || !(uring = take_in_ring(ring))) return false;
  look_at_completions(uring, now_ns());
  uint32_t waiting = ring->sq.sqe_tail - ring->sq.sqe_head;
  uint32_t end = submits ? __atomic_load_n(uring->sq_tail, __ATOMIC_RELAXED) + waiting : uring->published;
  begin_submission(submission, uring, end);
  if (!submits) submission->end = uring->published;
  return true;
}

#define LIBURING "liburing.so.2"
/// Exports a function of liburing that works on a ring; `submits` when it may submit what waits in it.
#define WRAP_RING_CALL(type, name, submits, parameters, arguments)                          \
  EXPORT type name parameters {                                                             \
    static type(*real) parameters;                                                          \
    if (!real && !(real = find_function(#name, LIBURING))) return -ENOSYS;                  \
    struct submission submission;                                                           \
    if (!begin_ring_call(&submission, ring, submits)) return real arguments;                \
    type result = real arguments;                                                           \
    finish_submission(&submission);                                                         \
    return result;                                                                          \
  }
typedef struct liburing_ring ring_t;
typedef struct io_uring_cqe cqe_t;
struct __kernel_timespec;
WRAP_RING_CALL(int, io_uring_submit, true, (ring_t *ring), (ring))
WRAP_RING_CALL(int, io_uring_submit_and_wait, true, (ring_t *ring, unsigned n), (ring, n))
WRAP_RING_CALL(int, io_uring_submit_and_get_events, true, (ring_t *ring), (ring))
WRAP_RING_CALL(
    int, io_uring_submit_and_wait_timeout, true,
    (ring_t *ring, cqe_t **cqe, unsigned n, struct __kernel_timespec *time, sigset_t *signals), (ring, cqe, n, time, signals))
WRAP_RING_CALL(
    int, io_uring_submit_and_wait_min_timeout, true,
    (ring_t *ring, cqe_t **cqe, unsigned n, struct __kernel_timespec *time, unsigned least, sigset_t *signals),
    (ring, cqe, n, time, least, signals))
WRAP_RING_CALL(
    int, io_uring_submit_and_wait_reg, true, (ring_t *ring, cqe_t **cqe, unsigned n, int index), (ring, cqe, n, index))
WRAP_RING_CALL(
    int, __io_uring_get_cqe, submit > 0, (ring_t *ring, cqe_t **cqe, unsigned submit, unsigned n, sigset_t *signals),
    (ring, cqe, submit, n, signals))
WRAP_RING_CALL(int, io_uring_get_events, false, (ring_t *ring), (ring))
WRAP_RING_CALL(unsigned, io_uring_peek_batch_cqe, false, (ring_t *ring, cqe_t **cqes, unsigned n), (ring, cqes, n))
WRAP_RING_CALL(
    int, io_uring_wait_cqes, true,
    (ring_t *ring, cqe_t **cqe, unsigned n, struct __kernel_timespec *time, sigset_t *signals), (ring, cqe, n, time, signals))
WRAP_RING_CALL(
    int, io_uring_wait_cqe_timeout, true, (ring_t *ring, cqe_t **cqe, struct __kernel_timespec *time), (ring, cqe, time))
WRAP_RING_CALL(
    int, io_uring_wait_cqes_min_timeout, true,
    (ring_t *ring, cqe_t **cqe, unsigned n, struct __kernel_timespec *time, unsigned least, sigset_t *signals),
    (ring, cqe, n, time, least, signals))
WRAP_RING_CALL(int, __io_uring_sqring_wait, false, (ring_t *ring), (ring))
WRAP_RING_CALL(int, io_uring_resize_rings, false, (ring_t *ring, struct io_uring_params *parameters), (ring, parameters))

/// After one of liburing's ways to make a ring.
static int ring_was_made(ring_t *ring, int result) {
  if (result < 0 || !recording()) return result;
  struct description *known = known_description(ring->ring_fd);
  struct uring *uring = uring_of(known);
  // One of these functions may call another.
  if (!uring || uring->sq_head != ring->sq.khead) describe_opened(ring->ring_fd, O_RDWR);
  take_in_ring(ring);
  return result;
}

#define WRAP_RING_SETUP(name, parameters, arguments)                            \
  EXPORT int name parameters {                                                  \
    static int (*real) parameters;                                              \
    if (!real && !(real = find_function(#name, LIBURING))) return -ENOSYS;      \
    return ring_was_made(ring, real arguments);                                 \
  }
WRAP_RING_SETUP(io_uring_queue_init, (unsigned n, ring_t *ring, unsigned flags), (n, ring, flags))
WRAP_RING_SETUP(io_uring_queue_init_params, (unsigned n, ring_t *ring, struct io_uring_params *p), (n, ring, p))
WRAP_RING_SETUP(
    io_uring_queue_init_mem, (unsigned n, ring_t *ring, struct io_uring_params *p, void *memory, size_t bytes),
    (n, ring, p, memory, bytes))
WRAP_RING_SETUP(io_uring_queue_mmap, (int fd, struct io_uring_params *p, ring_t *ring), (fd, p, ring))

EXPORT void io_uring_queue_exit(ring_t *ring) {
  static void (*real)(ring_t *);
  if (!real && !(real = find_function("io_uring_queue_exit", LIBURING))) return;
  if (ring && recording()) forget_descriptor(ring->ring_fd);
  real(ring);
}

// ---- Registered files -------------------------------------------------------------------------------------------------------

static void set_fixed_files(struct uring *uring, uint32_t from, const int *files, uint32_t n) {
  if (!uring->fixed || from > uring->fixed_count || n > uring->fixed_count - from) return;
  for (uint32_t i = 0; i < n; i++) {
    int fd = files ? files[i] : -1;
    if (fd == -2) continue; // IORING_REGISTER_FILES_SKIP
    struct description *description = fd >= 0 ? description_of(fd) : NULL;
    uring->fixed[from + i] = description ? (struct fixed_file){description->id, description->flags} : (struct fixed_file){0, 0};
  }
}

static void register_files(struct uring *uring, const int *files, uint32_t n) {
  if (!uring || n > MAX_FIXED_FILES) return;
  if (!uring->fixed) {
    long map = RAW(SYS_mmap, 0, MAX_FIXED_FILES * sizeof *uring->fixed, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map < 0 && map > -4096) return;
    uring->fixed = (struct fixed_file *)map;
  }
  uring->fixed_count = n;
  set_fixed_files(uring, 0, files, n);
}

/// After a successful io_uring_register(2) of files.
static void files_were_registered(struct uring *uring, unsigned operation, const void *argument, unsigned n) {
  if (!uring || !argument) return;
  if (operation == IORING_REGISTER_FILES) register_files(uring, argument, n);
  if (operation == IORING_REGISTER_FILES_UPDATE) {
    const struct io_uring_files_update *update = argument;
    set_fixed_files(uring, update->offset, (const int *)update->fds, n);
  }
  if (operation == IORING_REGISTER_FILES2) {
    const struct io_uring_rsrc_register *files = argument;
    register_files(uring, (const int *)files->data, files->nr);
  }
  if (operation == IORING_REGISTER_FILES_UPDATE2) {
    const struct io_uring_rsrc_update2 *update = argument;
    set_fixed_files(uring, update->offset, (const int *)update->data, update->nr);
  }
}

static struct uring *ring_to_register_in(ring_t *ring, int result) { return result >= 0 && recording() ? take_in_ring(ring) : NULL; }

#define WRAP_REGISTER(name, parameters, arguments, after)                       \
  EXPORT int name parameters {                                                  \
    static int (*real) parameters;                                              \
    if (!real && !(real = find_function(#name, LIBURING))) return -ENOSYS;      \
    int result = real arguments;                                                \
    struct uring *uring = ring_to_register_in(ring, result);                    \
    if (uring) after;                                                           \
    return result;                                                              \
  }
WRAP_REGISTER(io_uring_register_files, (ring_t *ring, const int *files, unsigned n), (ring, files, n), register_files(uring, files, n))
WRAP_REGISTER(
    io_uring_register_files_tags, (ring_t *ring, const int *files, const uint64_t *tags, unsigned n), (ring, files, tags, n),
    register_files(uring, files, n))
WRAP_REGISTER(io_uring_register_files_sparse, (ring_t *ring, unsigned n), (ring, n), register_files(uring, NULL, n))
WRAP_REGISTER(
    io_uring_register_files_update, (ring_t *ring, unsigned from, const int *files, unsigned n), (ring, from, files, n),
    set_fixed_files(uring, from, files, (uint32_t)result))
WRAP_REGISTER(
    io_uring_register_files_update_tag, (ring_t *ring, unsigned from, const int *files, const uint64_t *tags, unsigned n),
    (ring, from, files, tags, n), set_fixed_files(uring, from, files, (uint32_t)result))
WRAP_REGISTER(io_uring_unregister_files, (ring_t *ring), (ring), uring->fixed_count = 0)

// ---- By number, and liburing's functions for that -----------------------------------------------------------------------------

static void ring_was_set_up(int fd, const struct io_uring_params *parameters) {
  if (fd < 0 || !parameters || !recording()) return;
  struct description *description = describe_opened(fd, O_RDWR);
  if (!description) return;
  if (parameters->flags & SETUP_NO_MMAP) {
    // Its queues are the program's own memory, at addresses that older headers don't tell.
    __atomic_fetch_add(&session->uring_rings, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&session->uring_hidden_rings, 1, __ATOMIC_RELAXED);
    return;
  }
  struct uring *uring = new_uring(description, parameters->flags);
  if (!uring) return;
  uring->sq_offsets = parameters->sq_off;
  uring->cq_offsets = parameters->cq_off;
  uring->sq_entries = parameters->sq_entries;
  uring->cq_entries = parameters->cq_entries;
}

static bool begin_enter(struct submission *submission, int fd, unsigned submit) {
  struct uring *uring;
  if (!recording() || !(uring = uring_of(description_of(fd))) || !uring->sq_head || !uring->cq_tail) return false;
  look_at_completions(uring, now_ns());
  account_unseen(uring);
  uint32_t head = __atomic_load_n(uring->sq_head, __ATOMIC_ACQUIRE), tail = __atomic_load_n(uring->sq_tail, __ATOMIC_ACQUIRE);
  // A kernel thread that polls takes all there is, whatever the call says.
  if (!(uring->setup_flags & IORING_SETUP_SQPOLL) && tail - head > submit) tail = head + submit;
  begin_submission(submission, uring, tail);
  return true;
}

EXPORT int io_uring_enter2(unsigned fd, unsigned submit, unsigned least, unsigned flags, void *argument, size_t bytes) {
  static int (*real)(unsigned, unsigned, unsigned, unsigned, void *, size_t);
  if (!real) real = find_function("io_uring_enter2", LIBURING);
  struct submission submission;
  bool recorded = begin_enter(&submission, (int)fd, submit);
  int result = real ? real(fd, submit, least, flags, argument, bytes)
                    : (int)RAW(SYS_io_uring_enter, fd, submit, least, flags, argument, bytes);
  if (recorded) finish_submission(&submission);
  return result;
}

EXPORT int io_uring_enter(unsigned fd, unsigned submit, unsigned least, unsigned flags, sigset_t *signals) {
  return io_uring_enter2(fd, submit, least, flags, signals, 8);
}

EXPORT int io_uring_setup(unsigned entries, struct io_uring_params *parameters) {
  int fd = (int)RAW(SYS_io_uring_setup, entries, parameters);
  ring_was_set_up(fd, parameters);
  return fd;
}

EXPORT int io_uring_register(unsigned fd, unsigned operation, void *argument, unsigned n) {
  int result = (int)RAW(SYS_io_uring_register, fd, operation, argument, n);
  if (result >= 0 && recording()) files_were_registered(uring_of(description_of((int)fd)), operation & REGISTER_OPERATION_MASK, argument, n);
  return result;
}

long uring_setup_by_number(long entries, void *parameters) {
  long fd = real_syscall(SYS_io_uring_setup, entries, parameters, 0L, 0L, 0L, 0L);
  int saved = errno;
  ring_was_set_up((int)fd, parameters);
  errno = saved;
  return fd;
}

long uring_enter_by_number(long fd, long submit, long least, long flags, long argument, long bytes) {
  struct submission submission;
  bool recorded = begin_enter(&submission, (int)fd, (unsigned)submit);
  long result = real_syscall(SYS_io_uring_enter, fd, submit, least, flags, argument, bytes);
  int saved = errno;
  if (recorded) finish_submission(&submission);
  errno = saved;
  return result;
}

long uring_register_by_number(long fd, long operation, void *argument, long n) {
  long result = real_syscall(SYS_io_uring_register, fd, operation, argument, n, 0L, 0L);
  if (result >= 0 && recording())
    files_were_registered(uring_of(description_of((int)fd)), (unsigned)operation & REGISTER_OPERATION_MASK, argument, (unsigned)n);
  return result;
}
