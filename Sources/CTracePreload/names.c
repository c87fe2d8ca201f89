// Calls that give, share and close descriptors, and that change names.
#include "preload.h"

// ---- Open -------------------------------------------------------------------------------------------------------------

uint32_t open_event_flags(int flags) {
  uint32_t bits = description_flags(flags);
  if (flags & O_CREAT) bits |= TRACE_FLAG_CREATE;
  if (flags & O_TRUNC) bits |= TRACE_FLAG_TRUNCATING;
  if ((flags & O_ACCMODE) != O_WRONLY) bits |= TRACE_FLAG_OPEN_READ;
  if ((flags & O_ACCMODE) != O_RDONLY) bits |= TRACE_FLAG_OPEN_WRITE;
  return bits;
}

void finish_open(struct call *call, int folder, const char *path, int flags, int fd) {
  uint64_t end_ns = now_ns();
  int64_t result = result_of(fd);
  if (fd >= 0) {
    struct description *description = flags & O_PATH ? NULL : describe_opened(fd, flags);
    if (description) call->id = description->id;
  } else if (result != -EFAULT) {
    call->id = define_name(folder, path, NULL);
  }
  finish_call(
      call, end_ns, TRACE_OP_OPEN, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, result, open_event_flags(flags) | call->flags,
      TRACE_NO_DESCRIPTION);
}

static bool wants_mode(int flags) { return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE; }

#define MODE_ARGUMENT(flags, last)            \
  mode_t mode = 0;                            \
  if (wants_mode(flags)) {                    \
    va_list list;                             \
    va_start(list, last);                     \
    mode = va_arg(list, mode_t);              \
    va_end(list);                             \
  }

EXPORT int open(const char *path, int flags, ...) {
  MODE_ARGUMENT(flags, flags)
  struct call call;
  if (!begin_named_call(&call)) return real_open(path, flags, mode);
  int fd = real_open(path, flags, mode);
  finish_open(&call, AT_FDCWD, path, flags, fd);
  return fd;
}

EXPORT int openat(int folder, const char *path, int flags, ...) {
  MODE_ARGUMENT(flags, flags)
  struct call call;
  if (!begin_named_call(&call)) return real_openat(folder, path, flags, mode);
  int fd = real_openat(folder, path, flags, mode);
  finish_open(&call, folder, path, flags, fd);
  return fd;
}

EXPORT int __open_2(const char *path, int flags) {
  struct call call;
  if (!begin_named_call(&call)) return real___open_2(path, flags);
  int fd = real___open_2(path, flags);
  finish_open(&call, AT_FDCWD, path, flags, fd);
  return fd;
}

EXPORT int __openat_2(int folder, const char *path, int flags) {
  struct call call;
  if (!begin_named_call(&call)) return real___openat_2(folder, path, flags);
  int fd = real___openat_2(folder, path, flags);
  finish_open(&call, folder, path, flags, fd);
  return fd;
}

/// openat2(2), which libc has no function for.
int open_by_number(int folder, const char *path, const struct open_how *how, size_t bytes) {
  struct call call;
  if (!begin_named_call(&call)) return (int)real_syscall(SYS_openat2, folder, path, how, bytes, 0L, 0L);
  int fd = (int)real_syscall(SYS_openat2, folder, path, how, bytes, 0L, 0L);
  // Only a call that succeeded proves that the structure can be read.
  finish_open(&call, folder, path, fd >= 0 ? (int)how->flags : 0, fd);
  return fd;
}

EXPORT int creat(const char *path, mode_t mode) {
  struct call call;
  if (!begin_named_call(&call)) return real_creat(path, mode);
  int fd = real_creat(path, mode);
  finish_open(&call, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, fd);
  return fd;
}

#define WRAP_MKSTEMP(name, parameters, arguments, more_flags)                   \
  EXPORT int name parameters {                                                  \
    struct call call;                                                           \
    if (!begin_named_call(&call)) return real_##name arguments;                 \
    int fd = real_##name arguments;                                             \
    finish_open(&call, AT_FDCWD, path, O_CREAT | O_RDWR | O_EXCL | (more_flags), fd); \
    return fd;                                                                  \
  }
WRAP_MKSTEMP(mkstemp, (char *path), (path), 0)
WRAP_MKSTEMP(mkostemp, (char *path, int flags), (path, flags), flags)
WRAP_MKSTEMP(mkstemps, (char *path, int suffix), (path, suffix), 0)
WRAP_MKSTEMP(mkostemps, (char *path, int suffix, int flags), (path, suffix, flags), flags)

/// No open of a file, so no event; but its position can be followed from the start.
EXPORT int memfd_create(const char *name, unsigned flags) {
  int fd = real_memfd_create(name, flags);
  if (fd >= 0 && recording()) describe_opened(fd, O_RDWR);
  return fd;
}

extern __typeof(open) open64 ALIAS("open");
extern __typeof(open) __open ALIAS("open");
extern __typeof(open) __open64 ALIAS("open");
extern __typeof(openat) openat64 ALIAS("openat");
extern __typeof(__open_2) __open64_2 ALIAS("__open_2");
extern __typeof(__openat_2) __openat64_2 ALIAS("__openat_2");
extern __typeof(creat) creat64 ALIAS("creat");
extern __typeof(mkstemp) mkstemp64 ALIAS("mkstemp");
extern __typeof(mkostemp) mkostemp64 ALIAS("mkostemp");
extern __typeof(mkstemps) mkstemps64 ALIAS("mkstemps");
extern __typeof(mkostemps) mkostemps64 ALIAS("mkostemps");

// ---- Close ------------------------------------------------------------------------------------------------------------

EXPORT int close(int fd) {
  struct call call;
  bool recorded = begin_call(&call, fd);
  // Programs close whole ranges of numbers to be sure; what was never open is no event.
  if (recorded && !call.description && abandon_call(&call)) recorded = false;
  // Forgotten first: once it is closed, another thread may get the number.
  forget_descriptor(fd);
  int result = real_close(fd);
  if (recorded) finish_plain(&call, TRACE_OP_CLOSE, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, result);
  return result;
}
extern __typeof(close) __close ALIAS("close");

static void forget_range(unsigned first, unsigned last) {
  bool recorded = recording();
  for (unsigned fd = first; fd <= last && fd < MAX_DESCRIPTORS; fd++) {
    uint32_t index = descriptor_table[fd];
    if (!index) {
      // Untouched stretches of the table are not worth a look each.
      if (fd % 1024 == 0 && fd >= 65536) break;
      continue;
    }
    struct call call;
    if (recorded && begin_call(&call, (int)fd))
      finish_plain(&call, TRACE_OP_CLOSE, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, 0);
    forget_descriptor((int)fd);
  }
}

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

EXPORT int close_range(unsigned first, unsigned last, int flags) {
  if (!(flags & CLOSE_RANGE_CLOEXEC) && first <= last && session->active && !me.in_vfork) forget_range(first, last);
  return real_close_range(first, last, flags);
}

EXPORT void closefrom(int first) {
  if (session->active && !me.in_vfork) forget_range(first < 0 ? 0 : (unsigned)first, ~0u);
  real_closefrom(first);
}

// ---- Folders and daemons: their descriptors end without close ---------------------------------------------------------

struct __dirstream;
extern int dirfd(struct __dirstream *stream);
EXPORT int closedir(struct __dirstream *stream) {
  if (stream && !me.in_vfork) forget_descriptor(dirfd(stream));
  return real_closedir(stream);
}

EXPORT int daemon(int nochdir, int noclose) {
  int result = real_daemon(nochdir, noclose);
  if (result == 0 && !noclose)
    for (int fd = 0; fd < 3; fd++) forget_descriptor(fd);
  return result;
}

// ---- Sharing ----------------------------------------------------------------------------------------------------------

static void finish_duplicate(struct call *call, int result) {
  if (result >= 0) share_descriptor(result, call->description);
  finish_plain(call, TRACE_OP_DUPLICATE, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, result);
}

EXPORT int dup(int fd) {
  struct call call;
  if (!begin_call(&call, fd)) return real_dup(fd);
  int result = real_dup(fd);
  finish_duplicate(&call, result);
  return result;
}

EXPORT int dup2(int fd, int to) {
  struct call call;
  bool recorded = begin_call(&call, fd);
  int result = real_dup2(fd, to);
  if (recorded) finish_duplicate(&call, result);
  else if (result >= 0 && fd != to) forget_descriptor(to);
  return result;
}
extern int __dup2(int, int) __attribute__((nothrow, leaf)) ALIAS("dup2");

EXPORT int dup3(int fd, int to, int flags) {
  struct call call;
  bool recorded = begin_call(&call, fd);
  int result = real_dup3(fd, to, flags);
  if (recorded) finish_duplicate(&call, result);
  else if (result >= 0) forget_descriptor(to);
  return result;
}

static void refresh_flags(int fd) {
  struct description *description = description_of(fd);
  long flags = RAW(SYS_fcntl, fd, F_GETFL);
  if (description && flags >= 0) description->flags = description_flags((int)flags);
}

EXPORT int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
    struct call call;
    if (!begin_call(&call, fd)) return real_fcntl(fd, command, argument);
    int result = real_fcntl(fd, command, argument);
    finish_duplicate(&call, result);
    return result;
  }
  int result = real_fcntl(fd, command, argument);
  if (command == F_SETFL && result == 0 && recording()) refresh_flags(fd);
  return result;
}
extern __typeof(fcntl) fcntl64 ALIAS("fcntl");
extern __typeof(fcntl) __fcntl ALIAS("fcntl");

// ---- Names ------------------------------------------------------------------------------------------------------------

/// The file that a name stands for now: asked before a call that takes the name away.
static bool look_up(int folder, const char *path, struct statx *status) {
  memset(status, 0, sizeof *status);
  return RAW(SYS_statx, folder, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, status) == 0;
}

/// Publishes a call with one name, or two; `found` is what the first stood for before it.
static void finish_named(
    struct call *call, uint8_t operation, int folder, const char *path, const struct statx *found, int other_folder,
    const char *other_path, int result) {
  uint64_t end_ns = now_ns();
  int64_t outcome = result_of(result);
  uint32_t other = TRACE_NO_DESCRIPTION;
  if (outcome != -EFAULT) {
    call->id = define_name(folder, path, found);
    if (other_path) other = define_name(other_folder, other_path, outcome < 0 ? NULL : found);
  }
  finish_call(call, end_ns, operation, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, outcome, 0, other);
}

#define WRAP_TWO_NAMES(name, parameters, arguments, operation, a, from, b, to)                      \
  EXPORT int name parameters {                                                                      \
    struct call call;                                                                               \
    if (!recording()) return real_##name arguments;                                                 \
    struct statx status;                                                                            \
    bool found = look_up(a, from, &status);                                                         \
    if (!begin_named_call(&call)) return real_##name arguments;                                     \
    int result = real_##name arguments;                                                             \
    finish_named(&call, operation, a, from, found ? &status : NULL, b, to, result);                 \
    return result;                                                                                  \
  }
WRAP_TWO_NAMES(rename, (const char *from, const char *to), (from, to), TRACE_OP_RENAME, AT_FDCWD, from, AT_FDCWD, to)
WRAP_TWO_NAMES(
    renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), TRACE_OP_RENAME, a, from, b, to)
WRAP_TWO_NAMES(
    renameat2, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags), TRACE_OP_RENAME, a,
    from, b, to)
WRAP_TWO_NAMES(link, (const char *from, const char *to), (from, to), TRACE_OP_LINK, AT_FDCWD, from, AT_FDCWD, to)
WRAP_TWO_NAMES(
    linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags), TRACE_OP_LINK, a, from, b,
    to)

#define WRAP_ONE_NAME(name, parameters, arguments, folder)                                          \
  EXPORT int name parameters {                                                                      \
    struct call call;                                                                               \
    if (!recording()) return real_##name arguments;                                                 \
    struct statx status;                                                                            \
    bool found = look_up(folder, path, &status);                                                    \
    if (!begin_named_call(&call)) return real_##name arguments;                                     \
    int result = real_##name arguments;                                                             \
    finish_named(&call, TRACE_OP_UNLINK, folder, path, found ? &status : NULL, 0, NULL, result);    \
    return result;                                                                                  \
  }
WRAP_ONE_NAME(unlink, (const char *path), (path), AT_FDCWD)
WRAP_ONE_NAME(unlinkat, (int folder, const char *path, int flags), (folder, path, flags), folder)
WRAP_ONE_NAME(remove, (const char *path), (path), AT_FDCWD)
