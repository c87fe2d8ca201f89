// Calls that move data or make it durable.
#include "preload.h"

EXPORT ssize_t read(int fd, void *p, size_t n) {
  struct call call;
  if (!begin_call(&call, fd)) return real_read(fd, p, n);
  claim_position(&call);
  ssize_t result = real_read(fd, p, n);
  finish_sequential(&call, fd, TRACE_OP_READ, n, result, 0);
  return result;
}

EXPORT ssize_t write(int fd, const void *p, size_t n) {
  struct call call;
  if (!begin_call(&call, fd)) return real_write(fd, p, n);
  claim_position(&call);
  ssize_t result = real_write(fd, p, n);
  finish_sequential(&call, fd, TRACE_OP_WRITE, n, result, 0);
  return result;
}

EXPORT ssize_t pread(int fd, void *p, size_t n, off_t at) {
  struct call call;
  if (!begin_call(&call, fd)) return real_pread(fd, p, n, at);
  ssize_t result = real_pread(fd, p, n, at);
  finish_at(&call, fd, TRACE_OP_READ, (uint64_t)at, n, result, 0);
  return result;
}

EXPORT ssize_t pwrite(int fd, const void *p, size_t n, off_t at) {
  struct call call;
  if (!begin_call(&call, fd)) return real_pwrite(fd, p, n, at);
  ssize_t result = real_pwrite(fd, p, n, at);
  finish_at(&call, fd, TRACE_OP_WRITE, (uint64_t)at, n, result, 0);
  return result;
}

EXPORT ssize_t __read_chk(int fd, void *p, size_t n, size_t room) {
  struct call call;
  if (n > room || !begin_call(&call, fd)) return real___read_chk(fd, p, n, room);
  claim_position(&call);
  ssize_t result = real___read_chk(fd, p, n, room);
  finish_sequential(&call, fd, TRACE_OP_READ, n, result, 0);
  return result;
}

EXPORT ssize_t __pread_chk(int fd, void *p, size_t n, off_t at, size_t room) {
  struct call call;
  if (n > room || !begin_call(&call, fd)) return real___pread_chk(fd, p, n, at, room);
  ssize_t result = real___pread_chk(fd, p, n, at, room);
  finish_at(&call, fd, TRACE_OP_READ, (uint64_t)at, n, result, 0);
  return result;
}

/// Bytes of the buffers of a vectored call. Only a call that succeeded proves that the vector can be read.
static uint64_t vector_bytes(const struct iovec *v, int n, ssize_t result) {
  if (result < 0) return TRACE_UNKNOWN_SIZE;
  uint64_t bytes = 0;
  for (int i = 0; i < n; i++) bytes += v[i].iov_len;
  return bytes;
}

EXPORT ssize_t readv(int fd, const struct iovec *v, int n) {
  struct call call;
  if (!begin_call(&call, fd)) return real_readv(fd, v, n);
  claim_position(&call);
  ssize_t result = real_readv(fd, v, n);
  finish_sequential(&call, fd, TRACE_OP_READ, vector_bytes(v, n, result), result, TRACE_FLAG_VECTORED);
  return result;
}

EXPORT ssize_t writev(int fd, const struct iovec *v, int n) {
  struct call call;
  if (!begin_call(&call, fd)) return real_writev(fd, v, n);
  claim_position(&call);
  ssize_t result = real_writev(fd, v, n);
  finish_sequential(&call, fd, TRACE_OP_WRITE, vector_bytes(v, n, result), result, TRACE_FLAG_VECTORED);
  return result;
}

EXPORT ssize_t preadv(int fd, const struct iovec *v, int n, off_t at) {
  struct call call;
  if (!begin_call(&call, fd)) return real_preadv(fd, v, n, at);
  ssize_t result = real_preadv(fd, v, n, at);
  finish_at(&call, fd, TRACE_OP_READ, (uint64_t)at, vector_bytes(v, n, result), result, TRACE_FLAG_VECTORED);
  return result;
}

EXPORT ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) {
  struct call call;
  if (!begin_call(&call, fd)) return real_pwritev(fd, v, n, at);
  ssize_t result = real_pwritev(fd, v, n, at);
  finish_at(&call, fd, TRACE_OP_WRITE, (uint64_t)at, vector_bytes(v, n, result), result, TRACE_FLAG_VECTORED);
  return result;
}

/// Offset -1 means the description's position.
static void finish_version2(
    struct call *call, int fd, uint8_t operation, const struct iovec *v, int n, off_t at, int flags, ssize_t result) {
  uint64_t size = vector_bytes(v, n, result);
  if (at == -1) finish_sequential(call, fd, operation, size, result, TRACE_FLAG_VECTORED | flags_of_request(flags));
  else finish_at(call, fd, operation, (uint64_t)at, size, result, TRACE_FLAG_VECTORED | flags_of_request(flags));
}

EXPORT ssize_t preadv2(int fd, const struct iovec *v, int n, off_t at, int flags) {
  struct call call;
  if (!begin_call(&call, fd)) return real_preadv2(fd, v, n, at, flags);
  claim_position(&call);
  ssize_t result = real_preadv2(fd, v, n, at, flags);
  finish_version2(&call, fd, TRACE_OP_READ, v, n, at, flags, result);
  return result;
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t at, int flags) {
  struct call call;
  if (!begin_call(&call, fd)) return real_pwritev2(fd, v, n, at, flags);
  claim_position(&call);
  ssize_t result = real_pwritev2(fd, v, n, at, flags);
  finish_version2(&call, fd, TRACE_OP_WRITE, v, n, at, flags, result);
  return result;
}

extern __typeof(read) __read ALIAS("read");
extern __typeof(write) __write ALIAS("write");
extern __typeof(pread) pread64 ALIAS("pread");
extern __typeof(pread) __pread64 ALIAS("pread");
extern __typeof(pread) __libc_pread ALIAS("pread");
extern __typeof(pwrite) pwrite64 ALIAS("pwrite");
extern __typeof(pwrite) __pwrite64 ALIAS("pwrite");
extern __typeof(pwrite) __libc_pwrite ALIAS("pwrite");
extern __typeof(__pread_chk) __pread64_chk ALIAS("__pread_chk");
extern __typeof(preadv) preadv64 ALIAS("preadv");
extern __typeof(pwritev) pwritev64 ALIAS("pwritev");
extern __typeof(preadv2) preadv64v2 ALIAS("preadv2");
extern __typeof(pwritev2) pwritev64v2 ALIAS("pwritev2");

// ---- Between two files --------------------------------------------------------------------------------------------------

/// The offset that a call between two files had in its file: the one it named, or the position, which it moved.
static uint64_t side_offset(struct description *description, int fd, const off_t *named, int64_t before, int64_t moved, uint32_t *flags) {
  if (named) return (uint64_t)before;
  *flags |= TRACE_FLAG_SEQUENTIAL;
  return advance_position(description, fd, moved, false, flags);
}

static void finish_between(
    struct call *call, uint8_t operation, int in, const off_t *from, int64_t from_before, int out, const off_t *to,
    uint64_t size, ssize_t result) {
  uint64_t end_ns = now_ns();
  int64_t outcome = result_of(result);
  uint32_t flags = call->flags, other_flags = 0;
  struct description *target = description_of(out);
  uint64_t offset = side_offset(call->description, in, from, from_before, outcome, &flags);
  if (!to && target) side_offset(target, out, NULL, 0, outcome, &other_flags);
  finish_call(call, end_ns, operation, offset, size, outcome, flags, target ? target->id : TRACE_NO_DESCRIPTION);
}

EXPORT ssize_t sendfile(int out, int in, off_t *at, size_t n) {
  struct call call;
  if (!begin_call(&call, in)) return real_sendfile(out, in, at, n);
  claim_position(&call);
  int64_t before = at ? *at : 0;
  ssize_t result = real_sendfile(out, in, at, n);
  finish_between(&call, TRACE_OP_SENDFILE, in, at, before, out, NULL, n, result);
  return result;
}
extern __typeof(sendfile) sendfile64 ALIAS("sendfile");

EXPORT ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags) {
  struct call call;
  if (!begin_call(&call, in)) return real_copy_file_range(in, from, out, to, n, flags);
  claim_position(&call);
  int64_t before = from ? *from : 0;
  ssize_t result = real_copy_file_range(in, from, out, to, n, flags);
  finish_between(&call, TRACE_OP_COPY_RANGE, in, from, before, out, to, n, result);
  return result;
}

EXPORT ssize_t splice(int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags) {
  struct call call;
  if (!begin_call(&call, in)) return real_splice(in, from, out, to, n, flags);
  claim_position(&call);
  int64_t before = from ? *from : 0;
  ssize_t result = real_splice(in, from, out, to, n, flags);
  finish_between(&call, TRACE_OP_SPLICE, in, from, before, out, to, n, result);
  return result;
}

// The format has no operation for these two: they move pages between pipes and memory, not data of a file.

EXPORT ssize_t tee(int in, int out, size_t n, unsigned flags) {
  struct call call;
  if (!begin_call(&call, in)) return real_tee(in, out, n, flags);
  ssize_t result = real_tee(in, out, n, flags);
  uint64_t end_ns = now_ns();
  struct description *target = description_of(out);
  finish_call(&call, end_ns, TRACE_OP_OTHER, TRACE_UNKNOWN_OFFSET, n, result_of(result), call.flags,
              target ? target->id : TRACE_NO_DESCRIPTION);
  return result;
}

EXPORT ssize_t vmsplice(int fd, const struct iovec *v, size_t n, unsigned flags) {
  struct call call;
  if (!begin_call(&call, fd)) return real_vmsplice(fd, v, n, flags);
  ssize_t result = real_vmsplice(fd, v, n, flags);
  call.flags |= TRACE_FLAG_VECTORED;
  finish_plain(&call, TRACE_OP_OTHER, TRACE_UNKNOWN_OFFSET, vector_bytes(v, (int)n, result), result);
  return result;
}

// ---- Durability and space -----------------------------------------------------------------------------------------------

EXPORT int fsync(int fd) {
  struct call call;
  if (!begin_call(&call, fd)) return real_fsync(fd);
  int result = real_fsync(fd);
  finish_plain(&call, TRACE_OP_FSYNC, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, result);
  return result;
}

EXPORT int fdatasync(int fd) {
  struct call call;
  if (!begin_call(&call, fd)) return real_fdatasync(fd);
  int result = real_fdatasync(fd);
  finish_plain(&call, TRACE_OP_FDATASYNC, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, result);
  return result;
}

EXPORT int sync_file_range(int fd, off64_t at, off64_t n, unsigned flags) {
  struct call call;
  if (!begin_call(&call, fd)) return real_sync_file_range(fd, at, n, flags);
  int result = real_sync_file_range(fd, at, n, flags);
  finish_plain(&call, TRACE_OP_SYNC_FILE_RANGE, (uint64_t)at, (uint64_t)n, result);
  return result;
}

EXPORT int ftruncate(int fd, off_t n) {
  struct call call;
  if (!begin_call(&call, fd)) return real_ftruncate(fd, n);
  int result = real_ftruncate(fd, n);
  finish_plain(&call, TRACE_OP_TRUNCATE, (uint64_t)n, TRACE_UNKNOWN_SIZE, result);
  return result;
}
extern __typeof(ftruncate) ftruncate64 ALIAS("ftruncate");

EXPORT int truncate(const char *path, off_t n) {
  struct call call;
  if (!begin_named_call(&call)) return real_truncate(path, n);
  int result = real_truncate(path, n);
  int saved = errno;
  uint64_t end_ns = now_ns();
  struct statx status;
  bool found = RAW(SYS_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_BTIME, &status) == 0;
  call.id = result == 0 || found ? define_name(AT_FDCWD, path, found ? &status : NULL) : TRACE_NO_DESCRIPTION;
  errno = saved;
  finish_call(&call, end_ns, TRACE_OP_TRUNCATE, (uint64_t)n, TRACE_UNKNOWN_SIZE, result_of(result), 0, TRACE_NO_DESCRIPTION);
  return result;
}
extern __typeof(truncate) truncate64 ALIAS("truncate");

uint8_t allocate_operation(int mode) {
  if (mode & FALLOC_FL_PUNCH_HOLE) return TRACE_OP_DISCARD;
  if (mode & FALLOC_FL_ZERO_RANGE) return TRACE_OP_WRITE_ZEROES;
  return mode & ~FALLOC_FL_KEEP_SIZE ? TRACE_OP_OTHER : TRACE_OP_ALLOCATE;
}

EXPORT int fallocate(int fd, int mode, off_t at, off_t n) {
  struct call call;
  if (!begin_call(&call, fd)) return real_fallocate(fd, mode, at, n);
  int result = real_fallocate(fd, mode, at, n);
  finish_plain(&call, allocate_operation(mode), (uint64_t)at, (uint64_t)n, result);
  return result;
}
extern __typeof(fallocate) fallocate64 ALIAS("fallocate");

/// posix_fallocate returns an error's number and leaves errno alone.
EXPORT int posix_fallocate(int fd, off_t at, off_t n) {
  struct call call;
  if (!begin_call(&call, fd)) return real_posix_fallocate(fd, at, n);
  int result = real_posix_fallocate(fd, at, n);
  finish_call(
      &call, now_ns(), TRACE_OP_ALLOCATE, (uint64_t)at, (uint64_t)n, -(int64_t)result, call.flags, TRACE_NO_DESCRIPTION);
  return result;
}
extern __typeof(posix_fallocate) posix_fallocate64 ALIAS("posix_fallocate");

EXPORT off_t lseek(int fd, off_t at, int whence) {
  struct call call;
  if (!begin_call(&call, fd)) return real_lseek(fd, at, whence);
  off_t result = real_lseek(fd, at, whence);
  if (result >= 0 && call.description) __atomic_store_n(&call.description->position, (uint64_t)result, __ATOMIC_RELAXED);
  finish_plain(&call, TRACE_OP_SEEK, result >= 0 ? (uint64_t)result : TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, result);
  return result;
}
extern __typeof(lseek) lseek64 ALIAS("lseek");
extern off_t __lseek(int, off_t, int) __attribute__((nothrow, leaf)) ALIAS("lseek");
