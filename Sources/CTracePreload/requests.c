// Requests that complete later: libaio and POSIX AIO. What is submitted and what is found completed are two records; the
// collector joins them, so that nothing has to be kept here.
#include "preload.h"
#include <linux/aio_abi.h>
#include <signal.h>

uint64_t bytes_of_vector(uint64_t vector, uint64_t n) {
  const struct iovec *v = (const struct iovec *)vector;
  if (vector < 4096 || n > 1024) return TRACE_UNKNOWN_SIZE;
  uint64_t bytes = 0;
  for (uint64_t i = 0; i < n; i++) bytes += v[i].iov_len;
  return bytes;
}

static void take_file(struct request *request, int fd) {
  struct description *description = description_of(fd);
  request->id = description ? description->id : TRACE_NO_DESCRIPTION;
  request->flags |= description ? description->flags : 0;
}

/// An appending write goes to the end of the file as it is then, whatever offset it names.
static void take_range(struct request *request, uint64_t offset, uint64_t size) {
  request->offset = offset;
  request->size = size;
  if (request->operation != TRACE_OP_WRITE || !(request->flags & TRACE_FLAG_APPEND)) return;
  request->offset = TRACE_UNKNOWN_OFFSET;
  request->flags |= TRACE_FLAG_INFERRED_OFFSET;
}

// ---- libaio -----------------------------------------------------------------------------------------------------------------

static struct request request_of_iocb(uint64_t context, const struct iocb *iocb) {
  static const uint8_t operations[] = {
    [IOCB_CMD_PREAD] = TRACE_OP_READ, [IOCB_CMD_PWRITE] = TRACE_OP_WRITE, [IOCB_CMD_FSYNC] = TRACE_OP_FSYNC,
    [IOCB_CMD_FDSYNC] = TRACE_OP_FDATASYNC, [IOCB_CMD_PREADV] = TRACE_OP_READ, [IOCB_CMD_PWRITEV] = TRACE_OP_WRITE};
  struct request request = {
    .context = context, .key = (uint64_t)iocb, .offset = TRACE_UNKNOWN_OFFSET, .size = TRACE_UNKNOWN_SIZE};
  unsigned code = iocb->aio_lio_opcode;
  request.operation = code < sizeof operations ? operations[code] : TRACE_OP_OTHER;
  if (code != IOCB_CMD_NOOP) take_file(&request, (int)iocb->aio_fildes);
  if (request.operation != TRACE_OP_READ && request.operation != TRACE_OP_WRITE) return request;
  request.flags |= flags_of_request((int)iocb->aio_rw_flags);
  uint64_t size = iocb->aio_nbytes;
  if (code == IOCB_CMD_PREADV || code == IOCB_CMD_PWRITEV) {
    request.flags |= TRACE_FLAG_VECTORED;
    size = bytes_of_vector(iocb->aio_buf, iocb->aio_nbytes);
  }
  take_range(&request, (uint64_t)iocb->aio_offset, size);
  return request;
}

/// Publishes the requests before the kernel gets them: from then on they may complete, and their memory be used again.
static bool begin_submission(long context, long count, struct iocb **list) {
  struct call call;
  if (count <= 0 || count > 1 << 20 || !list || !recording()) return false;
  // Files that are seen for the first time are looked up before the clock starts.
  for (long i = 0; i < count; i++)
    if (list[i]) description_of((int)list[i]->aio_fildes);
  if (!begin_named_call(&call)) return false;
  for (long i = 0; i < count; i++) {
    if (!list[i]) continue;
    struct request request = request_of_iocb((uint64_t)context, list[i]);
    publish_submission(&request, call.start_ns);
  }
  return abandon_call(&call);
}

static void finish_submission(long context, long count, struct iocb **list, long taken) {
  for (long i = taken < 0 ? 0 : taken; i < count; i++)
    if (list[i]) publish_withdrawal((uint64_t)context, (uint64_t)list[i]);
}

static void publish_events(long context, const struct io_event *events, long count) {
  if (count <= 0 || !recording()) return;
  uint64_t seen_ns = now_ns();
  for (long i = 0; i < count; i++) publish_completion((uint64_t)context, events[i].obj, events[i].res, seen_ns, 0);
}

/// libaio's own function, whose calls by number are not to be recorded once more.
#define IN_LIBRARY(expression)        \
  ({                                  \
    me.in_library++;                  \
    __auto_type result_ = expression; \
    me.in_library--;                  \
    result_;                          \
  })

#define LIBAIO "libaio.so.1"
// libaio returns -errno and leaves errno alone. Without it (a program that brings its own, by dlopen) the system call serves.

EXPORT int io_submit(aio_context_t context, long count, struct iocb **list) {
  static int (*real)(aio_context_t, long, struct iocb **);
  if (!real) real = find_function("io_submit", LIBAIO);
  bool recorded = begin_submission((long)context, count, list);
  int result = real ? IN_LIBRARY(real(context, count, list)) : (int)RAW(SYS_io_submit, context, count, list);
  if (recorded) finish_submission((long)context, count, list, result);
  return result;
}

EXPORT int io_getevents(aio_context_t context, long least, long most, struct io_event *events, struct timespec *timeout) {
  static int (*real)(aio_context_t, long, long, struct io_event *, struct timespec *);
  if (!real) real = find_function("io_getevents", LIBAIO);
  int result = real ? IN_LIBRARY(real(context, least, most, events, timeout))
                    : (int)RAW(SYS_io_getevents, context, least, most, events, timeout);
  publish_events((long)context, events, result);
  return result;
}

EXPORT int io_pgetevents(
    aio_context_t context, long least, long most, struct io_event *events, struct timespec *timeout, sigset_t *signals) {
  static int (*real)(aio_context_t, long, long, struct io_event *, struct timespec *, sigset_t *);
  if (!real) real = find_function("io_pgetevents", LIBAIO);
  struct {
    const sigset_t *set;
    size_t bytes;
  } mask = {signals, 8};
  int result = real ? IN_LIBRARY(real(context, least, most, events, timeout, signals))
                    : (int)RAW(SYS_io_pgetevents, context, least, most, events, timeout, &mask);
  publish_events((long)context, events, result);
  return result;
}

EXPORT int io_cancel(aio_context_t context, struct iocb *request, struct io_event *event) {
  static int (*real)(aio_context_t, struct iocb *, struct io_event *);
  if (!real) real = find_function("io_cancel", LIBAIO);
  int result = real ? IN_LIBRARY(real(context, request, event)) : (int)RAW(SYS_io_cancel, context, request, event);
  // Where the kernel can cancel at once, the event is given here and nowhere else.
  if (result == 0) publish_events((long)context, event, 1);
  return result;
}

long io_submit_by_number(long context, long count, void *list) {
  bool recorded = !me.in_library && begin_submission(context, count, list);
  long result = real_syscall(SYS_io_submit, context, count, list, 0L, 0L, 0L);
  if (recorded) finish_submission(context, count, list, result);
  return result;
}

long io_getevents_by_number(long number, long context, long least, long most, void *events, void *timeout, void *signals) {
  long result = real_syscall(number, context, least, most, events, timeout, signals);
  if (!me.in_library) publish_events(context, events, result);
  return result;
}

long io_cancel_by_number(long context, void *request, void *event) {
  long result = real_syscall(SYS_io_cancel, context, request, event, 0L, 0L, 0L);
  if (result == 0 && !me.in_library) publish_events(context, event, 1);
  return result;
}

// ---- POSIX AIO --------------------------------------------------------------------------------------------------------------
// glibc makes these requests with threads of its own, inside libc.

static struct request request_of_aiocb(const struct aiocb *aiocb, uint8_t operation) {
  struct request request = {
    .context = TRACE_CONTEXT_POSIX, .key = (uint64_t)aiocb, .operation = operation, .offset = TRACE_UNKNOWN_OFFSET,
    .size = TRACE_UNKNOWN_SIZE};
  take_file(&request, aiocb->aio_fildes);
  if (operation == TRACE_OP_READ || operation == TRACE_OP_WRITE) take_range(&request, (uint64_t)aiocb->aio_offset, aiocb->aio_nbytes);
  return request;
}

static bool begin_aiocb(const struct aiocb *aiocb, uint8_t operation) {
  struct call call;
  if (!aiocb || !begin_call(&call, aiocb->aio_fildes)) return false;
  struct request request = request_of_aiocb(aiocb, operation);
  publish_submission(&request, call.start_ns);
  return abandon_call(&call);
}

static int finish_aiocb(const struct aiocb *aiocb, int result, bool recorded) {
  if (recorded && result != 0) publish_withdrawal(TRACE_CONTEXT_POSIX, (uint64_t)aiocb);
  return result;
}

/// Publishes a completion as soon as the program learns of it. It may learn again: what was published twice is found stale.
static void publish_if_done(const struct aiocb *aiocb, int error) {
  if (error == EINPROGRESS || error < 0 || !recording()) return;
  publish_completion(TRACE_CONTEXT_POSIX, (uint64_t)aiocb, error ? -(int64_t)error : aiocb->__return_value, now_ns(), 0);
}

EXPORT int aio_read(struct aiocb *aiocb) {
  bool recorded = begin_aiocb(aiocb, TRACE_OP_READ);
  return finish_aiocb(aiocb, real_aio_read(aiocb), recorded);
}

EXPORT int aio_write(struct aiocb *aiocb) {
  bool recorded = begin_aiocb(aiocb, TRACE_OP_WRITE);
  return finish_aiocb(aiocb, real_aio_write(aiocb), recorded);
}

EXPORT int aio_fsync(int operation, struct aiocb *aiocb) {
  bool recorded = begin_aiocb(aiocb, operation == O_DSYNC ? TRACE_OP_FDATASYNC : TRACE_OP_FSYNC);
  return finish_aiocb(aiocb, real_aio_fsync(operation, aiocb), recorded);
}

EXPORT int aio_error(const struct aiocb *aiocb) {
  int error = real_aio_error(aiocb);
  publish_if_done(aiocb, error);
  return error;
}

EXPORT ssize_t aio_return(struct aiocb *aiocb) {
  int saved = errno;
  publish_if_done(aiocb, real_aio_error(aiocb));
  errno = saved;
  return real_aio_return(aiocb);
}

static void publish_done_of(const struct aiocb *const *list, int n) {
  int saved = errno;
  for (int i = 0; i < n; i++)
    if (list[i]) publish_if_done(list[i], real_aio_error(list[i]));
  errno = saved;
}

EXPORT int aio_suspend(const struct aiocb *const *list, int n, const struct timespec *timeout) {
  int result = real_aio_suspend(list, n, timeout);
  publish_done_of(list, n);
  return result;
}

EXPORT int lio_listio(int mode, struct aiocb *const *list, int n, struct sigevent *event) {
  for (int i = 0; i < n; i++) {
    if (!list[i] || list[i]->aio_lio_opcode == LIO_NOP) continue;
    begin_aiocb(list[i], list[i]->aio_lio_opcode == LIO_READ ? TRACE_OP_READ : TRACE_OP_WRITE);
  }
  int result = real_lio_listio(mode, list, n, event);
  if (mode == LIO_WAIT || result != 0) publish_done_of((const struct aiocb *const *)list, n);
  return result;
}

#define ALIAS_AIO(type, name, parameters) \
  extern type name##_alias parameters __asm__(#name "64") __attribute__((nothrow, leaf, nonnull)) ALIAS(#name)
ALIAS_AIO(int, aio_read, (struct aiocb *));
ALIAS_AIO(int, aio_write, (struct aiocb *));
ALIAS_AIO(int, aio_fsync, (int, struct aiocb *));
ALIAS_AIO(int, aio_error, (const struct aiocb *));
ALIAS_AIO(ssize_t, aio_return, (struct aiocb *));
extern __typeof(aio_suspend) aio_suspend_alias __asm__("aio_suspend64") ALIAS("aio_suspend");
extern int lio_listio_alias(int, struct aiocb *const *, int, struct sigevent *) __asm__("lio_listio64")
  __attribute__((nothrow, leaf, nonnull(2))) ALIAS("lio_listio");
