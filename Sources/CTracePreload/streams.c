// stdio. Its reads and writes are made inside libc, where no wrapper sees them; but how a call on a stream moved the stream's
// buffer tells how many bytes it took from the kernel or gave to it. A call that moved none leaves no record: getc and putc are
// memory accesses, but for one in some thousands. So these records stand for the reads and writes that libc made.
#include "preload.h"
#include <pthread.h>
#include <wchar.h>

// The headers' macros and renamings stand in for functions that are exported here under their own names.
#undef getc_unlocked
#undef putc_unlocked
#undef vfscanf
#undef fscanf
#undef scanf
#undef vscanf

/// Streams by descriptor: those that an open call gave, and the standard three. Others (fmemopen, fopencookie) are no files.
static FILE **streams;
static int streams_limit;

/// Bits of FILE's `_flags` and `_flags2`, as they have been since glibc 2.1.
enum { STREAM_UNBUFFERED = 2, STREAM_AT_END = 0x10, STREAM_FAILED = 0x20, STREAM_IN_BACKUP = 0x100, STREAM_BY_LINE = 0x200 };
enum { STREAM_MAPPED = 1 };

extern char __libc_single_threaded __attribute__((weak));
static inline bool single_threaded(void) { return &__libc_single_threaded && __libc_single_threaded; }

// ---- Which streams --------------------------------------------------------------------------------------------------------

static void follow_stream(FILE *stream, struct description *description) {
  int fd = stream->_fileno;
  if (!streams || (unsigned)fd >= MAX_DESCRIPTORS) return;
  // The stream moves the position by itself, so the kernel is asked for it.
  if (description && description->seekable) {
    mark_shared(description);
    int64_t position = RAW(SYS_lseek, fd, 0, SEEK_CUR);
    if (position >= 0) description->position = (uint64_t)position;
  }
  streams[fd] = stream;
  if (fd >= streams_limit) streams_limit = fd + 1;
}

bool streams_prepare(void) {
  long mapped = RAW(SYS_mmap, 0, MAX_DESCRIPTORS * sizeof *streams, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped < 0 && mapped > -4096) return false;
  streams = (FILE **)mapped;
  FILE *standard[3] = {stdin, stdout, stderr};
  for (int fd = 0; fd < 3; fd++)
    if (standard[fd]->_fileno == fd) follow_stream(standard[fd], NULL);
  return true;
}

/// The descriptor of a stream whose transfers can be told from its buffer, or -1.
static inline int followed_descriptor(FILE *stream) {
  int fd = stream->_fileno;
  if (UNLIKELY((unsigned)fd >= MAX_DESCRIPTORS || !streams || streams[fd] != stream)) return -1;
  return stream->_flags2 & STREAM_MAPPED ? -1 : fd;
}

static void forget_stream(FILE *stream) {
  int fd = stream->_fileno;
  if ((unsigned)fd >= MAX_DESCRIPTORS || me.in_vfork) return;
  if (streams && streams[fd] == stream) streams[fd] = NULL;
  forget_descriptor(fd);
}

// ---- What a call moved ----------------------------------------------------------------------------------------------------

/// Bytes that wait in the buffer to be written.
static inline size_t held_bytes(FILE *stream) {
  return stream->_IO_write_ptr > stream->_IO_write_base ? (size_t)(stream->_IO_write_ptr - stream->_IO_write_base) : 0;
}

/// Bytes that the buffer takes before it must be written; 0 when any byte may go at once.
static inline size_t room_bytes(FILE *stream) {
  return stream->_IO_write_end > stream->_IO_write_ptr ? (size_t)(stream->_IO_write_end - stream->_IO_write_ptr) : 0;
}

/// Bytes that were read and not yet taken, those pushed back by ungetc included.
static inline size_t left_bytes(FILE *stream) {
  size_t left = (size_t)(stream->_IO_read_end - stream->_IO_read_ptr);
  return stream->_flags & STREAM_IN_BACKUP ? left + (size_t)(stream->_IO_save_end - stream->_IO_save_base) : left;
}

/// A stream before a call.
struct stream_state {
  const char *read_ptr, *read_end;
  size_t left, held;
  /// Of standard output: reading from an unbuffered or a line-buffered stream writes it.
  size_t output_held;
  int flags;
};

static inline struct stream_state state_of(FILE *stream) {
  struct stream_state state = {
    stream->_IO_read_ptr, stream->_IO_read_end, left_bytes(stream), held_bytes(stream), 0, stream->_flags};
  if (UNLIKELY(stream->_flags & (STREAM_UNBUFFERED | STREAM_BY_LINE))) state.output_held = held_bytes(stdout);
  return state;
}

static void publish_transfer(struct call *call, int fd, uint64_t end_ns, uint8_t operation, int64_t moved, int64_t result) {
  uint32_t flags = call->flags | TRACE_FLAG_SEQUENTIAL | TRACE_FLAG_BUFFERED;
  uint64_t offset = TRACE_UNKNOWN_OFFSET;
  struct description *description = call->description;
  if (description && description->seekable) {
    mark_shared(description);
    offset = offset_from_kernel(description, fd, result, &flags);
  }
  finish_call(call, end_ns, operation, offset, (uint64_t)moved, result, flags, TRACE_NO_DESCRIPTION);
}

/// A write of another stream than that which was called.
static void publish_other_write(const struct call *call, FILE *stream, uint64_t end_ns, size_t moved) {
  int fd = followed_descriptor(stream);
  struct description *description = fd >= 0 ? description_of(fd) : NULL;
  if (!description) return;
  struct call other = *call;
  other.description = description;
  other.id = description->id;
  other.flags = description->flags;
  publish_transfer(&other, fd, end_ns, TRACE_OP_WRITE, (int64_t)moved, (int64_t)moved);
}

/// Ends a call that read. `taken` is what the program got of the stream, or -1 when that can't be told.
static void finish_reading(struct call *call, FILE *stream, int fd, const struct stream_state *before, int64_t taken) {
  uint64_t end_ns = now_ns();
  int now_set = stream->_flags & ~before->flags;
  int64_t moved;
  if (taken >= 0) moved = taken + (int64_t)left_bytes(stream) - (int64_t)before->left;
  else if (stream->_IO_read_end == before->read_end && stream->_IO_read_ptr >= before->read_ptr && !(now_set & STREAM_AT_END))
    moved = 0;
  else if (call->description && call->description->seekable)
    moved = RAW(SYS_lseek, fd, 0, SEEK_CUR) - (int64_t)call->description->position;
  else moved = stream->_IO_read_end - stream->_IO_buf_base;
  if (UNLIKELY(before->output_held) && held_bytes(stdout) < before->output_held)
    publish_other_write(call, stdout, end_ns, before->output_held - held_bytes(stdout));
  if (moved > 0) publish_transfer(call, fd, end_ns, TRACE_OP_READ, moved, moved);
  else if (now_set & STREAM_FAILED) publish_transfer(call, fd, end_ns, TRACE_OP_READ, stream->_IO_buf_end - stream->_IO_buf_base, -errno);
  else if (now_set & STREAM_AT_END) publish_transfer(call, fd, end_ns, TRACE_OP_READ, stream->_IO_buf_end - stream->_IO_buf_base, 0);
  else abandon_call(call);
}

/// Ends a call that wrote; `added` is what the stream took from the program.
static void finish_writing(struct call *call, FILE *stream, int fd, const struct stream_state *before, int64_t added) {
  uint64_t end_ns = now_ns();
  int64_t moved = (int64_t)before->held + (added > 0 ? added : 0) - (int64_t)held_bytes(stream);
  if (stream->_flags & ~before->flags & STREAM_FAILED)
    publish_transfer(call, fd, end_ns, TRACE_OP_WRITE, moved > 0 ? moved : (int64_t)before->held, -errno);
  else if (moved > 0) publish_transfer(call, fd, end_ns, TRACE_OP_WRITE, moved, moved);
  else abandon_call(call);
}

// ---- Locks ------------------------------------------------------------------------------------------------------------------
// Between the look at the buffer and the call no other thread may use the stream. A thread may be cancelled in the call, and
// must not keep the lock then.

static void unlock_stream(void *stream) { funlockfile(stream); }

#define LOCKED(type, stream, expression)                  \
  ({                                                      \
    type volatile outcome_;                               \
    if (LIKELY(single_threaded())) {                      \
      outcome_ = (expression);                            \
    } else {                                              \
      pthread_cleanup_push(unlock_stream, stream);        \
      flockfile(stream);                                  \
      outcome_ = (expression);                            \
      pthread_cleanup_pop(1);                             \
    }                                                     \
    (type) outcome_;                                      \
  })

/// A call that needs the buffer only, when `in_buffer` holds: that calls `direct`, which takes no lock; else `expression`.
#define BUFFER_OR(type, stream, in_buffer, direct, expression)  \
  do {                                                          \
    if (LIKELY(single_threaded())) {                            \
      if (LIKELY(in_buffer)) return direct;                     \
      return expression;                                        \
    }                                                           \
    flockfile(stream);                                          \
    if (LIKELY(in_buffer)) {                                    \
      type kept_ = direct;                                      \
      funlockfile(stream);                                      \
      return kept_;                                             \
    }                                                           \
    funlockfile(stream);                                        \
    return LOCKED(type, stream, expression);                    \
  } while (0)

// ---- Reading ----------------------------------------------------------------------------------------------------------------

#define READING(type, stream, call_expression, taken_expression)                \
  ({                                                                            \
    struct call call;                                                           \
    int fd = followed_descriptor(stream);                                       \
    type got;                                                                   \
    if (fd < 0 || !begin_call(&call, fd)) {                                     \
      got = call_expression;                                                    \
    } else {                                                                    \
      struct stream_state before = state_of(stream);                            \
      got = call_expression;                                                    \
      finish_reading(&call, stream, fd, &before, (int64_t)(taken_expression));  \
    }                                                                           \
    got;                                                                        \
  })

/// Bytes that fread gave; an item that was cut short is taken from the stream too, so that is not told by the count of items.
static int64_t items_taken(size_t got, size_t size, size_t n) { return got == n || size == 1 ? (int64_t)(got * size) : -1; }

static size_t slow_fread(void *p, size_t size, size_t n, FILE *stream) {
  return READING(size_t, stream, real_fread(p, size, n, stream), items_taken(got, size, n));
}

static inline bool product_fits(size_t size, size_t n, size_t room) {
  size_t bytes;
  return !__builtin_mul_overflow(size, n, &bytes) && bytes <= room;
}

EXPORT size_t fread(void *p, size_t size, size_t n, FILE *stream) {
  BUFFER_OR(size_t, stream, product_fits(size, n, (size_t)(stream->_IO_read_end - stream->_IO_read_ptr)),
            real_fread_unlocked(p, size, n, stream), slow_fread(p, size, n, stream));
}

EXPORT size_t fread_unlocked(void *p, size_t size, size_t n, FILE *stream) {
  if (product_fits(size, n, (size_t)(stream->_IO_read_end - stream->_IO_read_ptr))) return real_fread_unlocked(p, size, n, stream);
  return READING(size_t, stream, real_fread_unlocked(p, size, n, stream), items_taken(got, size, n));
}

static size_t slow_fread_chk(void *p, size_t room, size_t size, size_t n, FILE *stream) {
  return READING(size_t, stream, real___fread_chk(p, room, size, n, stream), items_taken(got, size, n));
}

EXPORT size_t __fread_chk(void *p, size_t room, size_t size, size_t n, FILE *stream) {
  BUFFER_OR(size_t, stream, product_fits(size, n, (size_t)(stream->_IO_read_end - stream->_IO_read_ptr)),
            real___fread_unlocked_chk(p, room, size, n, stream), slow_fread_chk(p, room, size, n, stream));
}

EXPORT size_t __fread_unlocked_chk(void *p, size_t room, size_t size, size_t n, FILE *stream) {
  return READING(size_t, stream, real___fread_unlocked_chk(p, room, size, n, stream), items_taken(got, size, n));
}

/// Whether the buffer holds all that a call takes which stops behind `delimiter` or after `most` bytes.
static inline bool line_is_there(FILE *stream, int delimiter, size_t most) {
  if (UNLIKELY(stream->_IO_read_ptr >= stream->_IO_read_end)) return false;
  size_t left = (size_t)(stream->_IO_read_end - stream->_IO_read_ptr);
  return left >= most || memchr(stream->_IO_read_ptr, delimiter, left) != NULL;
}

/// Bytes of a line that fgets gave; not certain when it holds a zero byte.
static int64_t line_taken(const char *line, int n, FILE *stream) {
  if (!line) return 0;
  size_t bytes = strlen(line);
  bool whole = bytes == (size_t)n - 1 || stream->_flags & STREAM_AT_END;
  return whole || (bytes > 0 && line[bytes - 1] == '\n') ? (int64_t)bytes : -1;
}

static char *slow_fgets(char *p, int n, FILE *stream) {
  return READING(char *, stream, real_fgets(p, n, stream), line_taken(got, n, stream));
}

EXPORT char *fgets(char *p, int n, FILE *stream) {
  BUFFER_OR(char *, stream, n > 1 && line_is_there(stream, '\n', (size_t)n - 1), real_fgets_unlocked(p, n, stream),
            slow_fgets(p, n, stream));
}

EXPORT char *fgets_unlocked(char *p, int n, FILE *stream) {
  if (n > 1 && line_is_there(stream, '\n', (size_t)n - 1)) return real_fgets_unlocked(p, n, stream);
  return READING(char *, stream, real_fgets_unlocked(p, n, stream), line_taken(got, n, stream));
}

static char *slow_fgets_chk(char *p, size_t room, int n, FILE *stream) {
  return READING(char *, stream, real___fgets_chk(p, room, n, stream), line_taken(got, n, stream));
}

EXPORT char *__fgets_chk(char *p, size_t room, int n, FILE *stream) {
  BUFFER_OR(char *, stream, n > 1 && line_is_there(stream, '\n', (size_t)n - 1), real___fgets_unlocked_chk(p, room, n, stream),
            slow_fgets_chk(p, room, n, stream));
}

EXPORT char *__fgets_unlocked_chk(char *p, size_t room, int n, FILE *stream) {
  return READING(char *, stream, real___fgets_unlocked_chk(p, room, n, stream), line_taken(got, n, stream));
}

static inline bool byte_is_there(FILE *stream) { return stream->_IO_read_ptr < stream->_IO_read_end; }
static int slow_getc(FILE *stream) { return READING(int, stream, real_getc(stream), got == EOF ? 0 : 1); }

EXPORT int getc(FILE *stream) {
  BUFFER_OR(int, stream, byte_is_there(stream), real_getc_unlocked(stream), slow_getc(stream));
}
extern int fgetc(FILE *) ALIAS("getc");
extern int _IO_getc(FILE *) ALIAS("getc");
EXPORT int getchar(void) { return getc(stdin); }

EXPORT int getc_unlocked(FILE *stream) {
  if (LIKELY(byte_is_there(stream))) return real_getc_unlocked(stream);
  return READING(int, stream, real_getc_unlocked(stream), got == EOF ? 0 : 1);
}
extern int fgetc_unlocked(FILE *) ALIAS("getc_unlocked");
EXPORT int getchar_unlocked(void) { return getc_unlocked(stdin); }

// What the getc_unlocked macro calls when the buffer is empty.
EXPORT int __uflow(FILE *stream) { return READING(int, stream, real___uflow(stream), got == EOF ? 0 : 1); }
EXPORT int __underflow(FILE *stream) { return READING(int, stream, real___underflow(stream), 0); }

static ssize_t slow_getdelim(char **line, size_t *room, int delimiter, FILE *stream) {
  return READING(ssize_t, stream, real_getdelim(line, room, delimiter, stream), got < 0 ? 0 : got);
}

/// There is no unlocked getdelim, but it is no cancellation point while the buffer serves it.
EXPORT ssize_t getdelim(char **line, size_t *room, int delimiter, FILE *stream) {
  BUFFER_OR(ssize_t, stream, line_is_there(stream, delimiter, SIZE_MAX), real_getdelim(line, room, delimiter, stream),
            slow_getdelim(line, room, delimiter, stream));
}
extern __typeof(getdelim) __getdelim ALIAS("getdelim");
EXPORT ssize_t getline(char **line, size_t *room, FILE *stream) { return getdelim(line, room, '\n', stream); }

#define WRAP_SCANNING(prefix, scan_name, stdin_name, vstdin_name)                                                       \
  static int slow_##prefix(FILE *stream, const char *format, va_list list) {                                            \
    return READING(int, stream, real_##prefix(stream, format, list), -1);                                               \
  }                                                                                                                     \
  EXPORT int prefix(FILE *stream, const char *format, va_list list) {                                                   \
    return LOCKED(int, stream, slow_##prefix(stream, format, list));                                                    \
  }                                                                                                                     \
  EXPORT int scan_name(FILE *stream, const char *format, ...) {                                                         \
    va_list list;                                                                                                       \
    va_start(list, format);                                                                                             \
    int got = prefix(stream, format, list);                                                                             \
    va_end(list);                                                                                                       \
    return got;                                                                                                         \
  }                                                                                                                     \
  EXPORT int stdin_name(const char *format, ...) {                                                                      \
    va_list list;                                                                                                       \
    va_start(list, format);                                                                                             \
    int got = prefix(stdin, format, list);                                                                              \
    va_end(list);                                                                                                       \
    return got;                                                                                                         \
  }                                                                                                                     \
  EXPORT int vstdin_name(const char *format, va_list list) { return prefix(stdin, format, list); }
// The headers rename the plain names to those of C99.
extern int plain_vfscanf(FILE *, const char *, va_list) __asm__("vfscanf");
extern int plain_fscanf(FILE *, const char *, ...) __asm__("fscanf");
extern int plain_scanf(const char *, ...) __asm__("scanf");
extern int plain_vscanf(const char *, va_list) __asm__("vscanf");
#define real_plain_vfscanf real_vfscanf
WRAP_SCANNING(plain_vfscanf, plain_fscanf, plain_scanf, plain_vscanf)
WRAP_SCANNING(__isoc99_vfscanf, __isoc99_fscanf, __isoc99_scanf, __isoc99_vscanf)
// glibc 2.38 and newer; where it is missing no program calls it.
static int real___isoc23_vfscanf(FILE *stream, const char *format, va_list list) {
  static int (*real)(FILE *, const char *, va_list);
  if (!real && !(real = find_function("__isoc23_vfscanf", "libc.so.6"))) return real_vfscanf(stream, format, list);
  return real(stream, format, list);
}
WRAP_SCANNING(__isoc23_vfscanf, __isoc23_fscanf, __isoc23_scanf, __isoc23_vscanf)

// ---- Writing ----------------------------------------------------------------------------------------------------------------

#define WRITING(type, stream, call_expression, added_expression)                 \
  ({                                                                             \
    struct call call;                                                            \
    int fd = followed_descriptor(stream);                                        \
    type got;                                                                    \
    if (fd < 0 || !begin_call(&call, fd)) {                                      \
      got = call_expression;                                                     \
    } else {                                                                     \
      struct stream_state before = state_of(stream);                             \
      got = call_expression;                                                     \
      finish_writing(&call, stream, fd, &before, (int64_t)(added_expression));   \
    }                                                                            \
    got;                                                                         \
  })

static size_t slow_fwrite(const void *p, size_t size, size_t n, FILE *stream) {
  return WRITING(size_t, stream, real_fwrite(p, size, n, stream), got * size);
}

EXPORT size_t fwrite(const void *p, size_t size, size_t n, FILE *stream) {
  BUFFER_OR(size_t, stream, product_fits(size, n, room_bytes(stream)), real_fwrite_unlocked(p, size, n, stream),
            slow_fwrite(p, size, n, stream));
}

EXPORT size_t fwrite_unlocked(const void *p, size_t size, size_t n, FILE *stream) {
  if (product_fits(size, n, room_bytes(stream))) return real_fwrite_unlocked(p, size, n, stream);
  return WRITING(size_t, stream, real_fwrite_unlocked(p, size, n, stream), got * size);
}

static int slow_fputs(const char *text, FILE *stream, size_t bytes) {
  return WRITING(int, stream, real_fputs(text, stream), got == EOF ? 0 : bytes);
}

EXPORT int fputs(const char *text, FILE *stream) {
  size_t bytes = strlen(text);
  BUFFER_OR(int, stream, bytes <= room_bytes(stream), real_fputs_unlocked(text, stream), slow_fputs(text, stream, bytes));
}

EXPORT int fputs_unlocked(const char *text, FILE *stream) {
  size_t bytes = strlen(text);
  return WRITING(int, stream, real_fputs_unlocked(text, stream), got == EOF ? 0 : bytes);
}

static int slow_puts(const char *text) {
  return WRITING(int, stdout, real_puts(text), got == EOF ? 0 : strlen(text) + 1);
}
EXPORT int puts(const char *text) { return LOCKED(int, stdout, slow_puts(text)); }
extern int _IO_puts(const char *) __attribute__((nonnull)) ALIAS("puts");

static inline bool byte_fits(FILE *stream) { return stream->_IO_write_ptr < stream->_IO_write_end; }
static int slow_putc(int c, FILE *stream) { return WRITING(int, stream, real_putc(c, stream), got == EOF ? 0 : 1); }

EXPORT int putc(int c, FILE *stream) {
  BUFFER_OR(int, stream, byte_fits(stream), real_putc_unlocked(c, stream), slow_putc(c, stream));
}
extern int fputc(int, FILE *) ALIAS("putc");
extern int _IO_putc(int, FILE *) __attribute__((nonnull)) ALIAS("putc");
EXPORT int putchar(int c) { return putc(c, stdout); }

EXPORT int putc_unlocked(int c, FILE *stream) {
  if (LIKELY(byte_fits(stream))) return real_putc_unlocked(c, stream);
  return WRITING(int, stream, real_putc_unlocked(c, stream), got == EOF ? 0 : 1);
}
extern int fputc_unlocked(int, FILE *) ALIAS("putc_unlocked");
EXPORT int putchar_unlocked(int c) { return putc_unlocked(c, stdout); }

// What the putc_unlocked macro calls when the buffer is full; EOF as a character flushes only.
EXPORT int __overflow(FILE *stream, int c) {
  return WRITING(int, stream, real___overflow(stream, c), got == EOF || c == EOF ? 0 : 1);
}

static int slow_vfprintf(FILE *stream, const char *format, va_list list) {
  return WRITING(int, stream, real_vfprintf(stream, format, list), got);
}

EXPORT int vfprintf(FILE *stream, const char *format, va_list list) {
  return LOCKED(int, stream, slow_vfprintf(stream, format, list));
}
extern __typeof(vfprintf) _IO_vfprintf ALIAS("vfprintf");

static int slow_vfprintf_chk(FILE *stream, int flag, const char *format, va_list list) {
  return WRITING(int, stream, real___vfprintf_chk(stream, flag, format, list), got);
}

EXPORT int __vfprintf_chk(FILE *stream, int flag, const char *format, va_list list) {
  return LOCKED(int, stream, slow_vfprintf_chk(stream, flag, format, list));
}

static int record_vdprintf(struct call *call, int fd, int got) {
  uint64_t end_ns = now_ns();
  uint32_t flags = call->flags | TRACE_FLAG_SEQUENTIAL | TRACE_FLAG_BUFFERED;
  bool at_end = flags & TRACE_FLAG_APPEND;
  int64_t outcome = result_of(got);
  uint64_t offset = advance_position(call->description, fd, outcome, at_end, &flags);
  finish_call(call, end_ns, TRACE_OP_WRITE, offset, got < 0 ? TRACE_UNKNOWN_SIZE : (uint64_t)got, outcome, flags, TRACE_NO_DESCRIPTION);
  return got;
}

EXPORT int vdprintf(int fd, const char *format, va_list list) {
  struct call call;
  if (!begin_call(&call, fd)) return real_vdprintf(fd, format, list);
  return record_vdprintf(&call, fd, real_vdprintf(fd, format, list));
}

EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list list) {
  struct call call;
  if (!begin_call(&call, fd)) return real___vdprintf_chk(fd, flag, format, list);
  return record_vdprintf(&call, fd, real___vdprintf_chk(fd, flag, format, list));
}

#define WITH_LIST(format, expression) \
  va_list list;                       \
  va_start(list, format);             \
  int got = expression;               \
  va_end(list);                       \
  return got;

EXPORT int fprintf(FILE *stream, const char *format, ...) { WITH_LIST(format, vfprintf(stream, format, list)) }
EXPORT int printf(const char *format, ...) { WITH_LIST(format, vfprintf(stdout, format, list)) }
EXPORT int vprintf(const char *format, va_list list) { return vfprintf(stdout, format, list); }
EXPORT int dprintf(int fd, const char *format, ...) { WITH_LIST(format, vdprintf(fd, format, list)) }
EXPORT int __fprintf_chk(FILE *stream, int flag, const char *format, ...) {
  WITH_LIST(format, __vfprintf_chk(stream, flag, format, list))
}
EXPORT int __printf_chk(int flag, const char *format, ...) { WITH_LIST(format, __vfprintf_chk(stdout, flag, format, list)) }
EXPORT int __vprintf_chk(int flag, const char *format, va_list list) { return __vfprintf_chk(stdout, flag, format, list); }
EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...) { WITH_LIST(format, __vdprintf_chk(fd, flag, format, list)) }

// ---- Flushing and seeking -------------------------------------------------------------------------------------------------------

#define MAX_FLUSHED 256

/// fflush(NULL): every stream that holds something writes it in this one call.
static int flush_all(int (*flush)(FILE *)) {
  struct call call;
  if (!streams || !begin_named_call(&call)) return flush(NULL);
  struct {
    FILE *stream;
    size_t held;
  } full[MAX_FLUSHED];
  int count = 0;
  for (int fd = 0; fd < streams_limit && count < MAX_FLUSHED; fd++) {
    FILE *stream = streams[fd];
    if (stream && held_bytes(stream)) full[count].stream = stream, full[count++].held = held_bytes(stream);
  }
  int result = flush(NULL);
  int saved = errno;
  uint64_t end_ns = now_ns();
  for (int i = 0; i < count; i++) {
    size_t held = held_bytes(full[i].stream);
    if (held < full[i].held) publish_other_write(&call, full[i].stream, end_ns, full[i].held - held);
  }
  abandon_call(&call);
  errno = saved;
  return result;
}

static int slow_fflush(FILE *stream, int (*flush)(FILE *)) { return WRITING(int, stream, flush(stream), 0); }

EXPORT int fflush(FILE *stream) {
  if (!stream) return flush_all(real_fflush);
  return LOCKED(int, stream, slow_fflush(stream, real_fflush));
}

EXPORT int fflush_unlocked(FILE *stream) {
  return stream ? slow_fflush(stream, real_fflush_unlocked) : flush_all(real_fflush_unlocked);
}

/// Before a seek: the position of the descriptor, where the bytes that wait will be written.
struct seek_state {
  struct call call;
  struct stream_state before;
  int64_t position;
  int64_t known_offset;
  int fd;
};

static bool begin_seek(struct seek_state *state, FILE *stream) {
  state->fd = followed_descriptor(stream);
  if (state->fd < 0 || !begin_call(&state->call, state->fd)) return false;
  state->before = state_of(stream);
  state->known_offset = stream->_offset;
  state->position = RAW(SYS_lseek, state->fd, 0, SEEK_CUR);
  return true;
}

/// A seek may write what waits, move the descriptor and read the block that it went to: an event each, when it did.
static void finish_seek(struct seek_state *state, FILE *stream, int64_t target, int64_t result) {
  uint64_t end_ns = now_ns();
  int saved = errno;
  struct call *call = &state->call;
  uint32_t flags = call->flags | TRACE_FLAG_BUFFERED;
  int64_t outcome = result_of(result), after = RAW(SYS_lseek, state->fd, 0, SEEK_CUR);
  bool moved = after != state->position || stream->_offset != state->known_offset;
  if (state->before.held && !held_bytes(stream)) {
    uint32_t more = call->flags & TRACE_FLAG_APPEND ? TRACE_FLAG_INFERRED_OFFSET : 0;
    uint64_t offset = state->position < 0 ? TRACE_UNKNOWN_OFFSET : (uint64_t)state->position;
    struct call write = *call;
    finish_call(&write, end_ns, TRACE_OP_WRITE, offset, state->before.held, (int64_t)state->before.held,
                flags | more | TRACE_FLAG_SEQUENTIAL, TRACE_NO_DESCRIPTION);
  }
  int64_t filled = stream->_IO_read_end - stream->_IO_buf_base;
  bool read = moved && !(stream->_flags & STREAM_IN_BACKUP) && stream->_IO_read_end > stream->_IO_read_base && filled > 0;
  if (call->description && after >= 0) call->description->position = (uint64_t)after;
  if (read && after >= filled) {
    struct call fill = *call;
    finish_call(&fill, end_ns, TRACE_OP_READ, (uint64_t)(after - filled), (uint64_t)filled, filled, flags | TRACE_FLAG_SEQUENTIAL,
                TRACE_NO_DESCRIPTION);
  }
  if (moved || outcome < 0)
    finish_call(call, end_ns, TRACE_OP_SEEK, target < 0 ? (uint64_t)after : (uint64_t)target, TRACE_UNKNOWN_SIZE, outcome, flags,
                TRACE_NO_DESCRIPTION);
  else abandon_call(call);
  errno = saved;
}

static int record_seek(FILE *stream, off_t at, int whence, int (*seek)(FILE *, off_t, int)) {
  struct seek_state state;
  if (!begin_seek(&state, stream)) return seek(stream, at, whence);
  int result = seek(stream, at, whence);
  finish_seek(&state, stream, whence == SEEK_SET ? at : -1, result);
  return result;
}

EXPORT int fseek(FILE *stream, long at, int whence) { return LOCKED(int, stream, record_seek(stream, at, whence, real_fseeko)); }
EXPORT int fseeko(FILE *stream, off_t at, int whence) { return LOCKED(int, stream, record_seek(stream, at, whence, real_fseeko)); }
extern __typeof(fseeko) fseeko64 ALIAS("fseeko");

static int record_rewind(FILE *stream) {
  struct seek_state state;
  bool recorded = begin_seek(&state, stream);
  real_rewind(stream);
  if (recorded) finish_seek(&state, stream, 0, 0);
  return 0;
}
EXPORT void rewind(FILE *stream) { (void)LOCKED(int, stream, record_rewind(stream)); }

static int record_fsetpos(FILE *stream, const fpos_t *at) {
  struct seek_state state;
  if (!begin_seek(&state, stream)) return real_fsetpos(stream, at);
  int result = real_fsetpos(stream, at);
  finish_seek(&state, stream, result == 0 ? (int64_t)at->__pos : -1, result);
  return result;
}
EXPORT int fsetpos(FILE *stream, const fpos_t *at) { return LOCKED(int, stream, record_fsetpos(stream, at)); }
extern int fsetpos64(FILE *, const fpos64_t *) ALIAS("fsetpos");

// ---- Opening and closing ----------------------------------------------------------------------------------------------------------

/// open(2) flags of a mode of fopen(3).
static int flags_of_mode(const char *mode) {
  int flags = mode[0] == 'w' ? O_CREAT | O_TRUNC : mode[0] == 'a' ? O_CREAT | O_APPEND : 0;
  int access = mode[0] == 'r' ? O_RDONLY : O_WRONLY;
  for (const char *at = mode + 1; *at && *at != ','; at++) {
    if (*at == '+') access = O_RDWR;
    if (*at == 'x') flags |= O_EXCL;
    if (*at == 'e') flags |= O_CLOEXEC;
  }
  return flags | access;
}

static void finish_stream_open(struct call *call, const char *path, const char *mode, FILE *stream) {
  int saved = errno;
  call->flags |= TRACE_FLAG_BUFFERED;
  finish_open(call, AT_FDCWD, path, flags_of_mode(mode), stream ? stream->_fileno : -1);
  if (stream) follow_stream(stream, known_description(stream->_fileno));
  errno = saved;
}

EXPORT FILE *fopen(const char *path, const char *mode) {
  struct call call;
  if (!begin_named_call(&call)) return real_fopen(path, mode);
  FILE *stream = real_fopen(path, mode);
  __atomic_fetch_add(&session->stdio_streams, 1, __ATOMIC_RELAXED);
  finish_stream_open(&call, path, mode, stream);
  return stream;
}
extern __typeof(fopen) fopen64 ALIAS("fopen");

EXPORT FILE *fdopen(int fd, const char *mode) {
  FILE *stream = real_fdopen(fd, mode);
  if (!stream || me.in_vfork) return stream;
  __atomic_fetch_add(&session->stdio_streams, 1, __ATOMIC_RELAXED);
  int saved = errno;
  if (recording()) follow_stream(stream, known_description(fd));
  errno = saved;
  return stream;
}

EXPORT FILE *tmpfile(void) {
  struct call call;
  if (!begin_named_call(&call)) return real_tmpfile();
  FILE *stream = real_tmpfile();
  __atomic_fetch_add(&session->stdio_streams, 1, __ATOMIC_RELAXED);
  if (stream) finish_stream_open(&call, "/tmp", "w+x", stream);
  else abandon_call(&call);
  return stream;
}
extern __typeof(tmpfile) tmpfile64 ALIAS("tmpfile");

EXPORT FILE *popen(const char *command, const char *mode) {
  FILE *stream = real_popen(command, mode);
  if (stream && !me.in_vfork) follow_stream(stream, NULL);
  return stream;
}

/// Ends a call that closed a stream: the write of what it held, then the close.
static void finish_close(struct call *call, const struct stream_state *before, int64_t position, int result) {
  uint64_t end_ns = now_ns();
  int64_t outcome = result_of(result);
  uint32_t flags = call->flags | TRACE_FLAG_BUFFERED;
  if (before->held) {
    uint64_t offset = position < 0 ? TRACE_UNKNOWN_OFFSET : (uint64_t)position;
    struct call write = *call;
    finish_call(&write, end_ns, TRACE_OP_WRITE, offset, before->held, outcome < 0 ? outcome : (int64_t)before->held,
                flags | TRACE_FLAG_SEQUENTIAL, TRACE_NO_DESCRIPTION);
  }
  finish_call(call, end_ns, TRACE_OP_CLOSE, TRACE_UNKNOWN_OFFSET, TRACE_UNKNOWN_SIZE, outcome, flags, TRACE_NO_DESCRIPTION);
}

/// Where a stream's waiting bytes will be written: at the position, or at the end of a file that is appended to.
static int64_t write_position(struct call *call, int fd) {
  if (!call->description || !call->description->seekable) return -1;
  struct stat status;
  if (call->flags & TRACE_FLAG_APPEND) {
    call->flags |= TRACE_FLAG_INFERRED_OFFSET;
    return RAW(SYS_fstat, fd, &status) == 0 ? status.st_size : -1;
  }
  return RAW(SYS_lseek, fd, 0, SEEK_CUR);
}

static int record_close(FILE *stream, int (*close_stream)(FILE *)) {
  struct call call;
  int fd = followed_descriptor(stream);
  if (fd < 0 || !begin_call(&call, fd)) {
    forget_stream(stream);
    return close_stream(stream);
  }
  struct stream_state before = state_of(stream);
  int64_t position = before.held ? write_position(&call, fd) : -1;
  // Forgotten first: once it is closed, another thread may get the number.
  forget_stream(stream);
  int result = close_stream(stream);
  finish_close(&call, &before, position, result);
  return result;
}

EXPORT int fclose(FILE *stream) { return record_close(stream, real_fclose); }
EXPORT int pclose(FILE *stream) { return record_close(stream, real_pclose); }

EXPORT int fcloseall(void) {
  flush_all(real_fflush);
  return real_fcloseall();
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream) {
  struct call call, opening;
  int fd = followed_descriptor(stream);
  if (fd < 0 || !begin_call(&call, fd)) {
    forget_stream(stream);
    return real_freopen(path, mode, stream);
  }
  struct stream_state before = state_of(stream);
  int64_t position = before.held ? write_position(&call, fd) : -1;
  forget_stream(stream);
  opening = call;
  opening.id = TRACE_NO_DESCRIPTION;
  opening.flags = 0;
  FILE *result = real_freopen(path, mode, stream);
  int saved = errno;
  finish_close(&call, &before, position, 0);
  errno = saved;
  if (path) finish_stream_open(&opening, path, mode, result);
  else if (result) follow_stream(result, NULL);
  return result;
}
extern __typeof(freopen) freopen64 ALIAS("freopen");

void flush_streams_at_exit(void) {
  if (!streams || !recording()) return;
  int saved = errno;
  // In libc's order, the latest stream first. A stream that a thread still uses is left to libc, which does not wait either.
  for (int fd = streams_limit; fd-- > 0;) {
    FILE *stream = streams[fd];
    if (!stream || followed_descriptor(stream) != fd || !held_bytes(stream) || ftrylockfile(stream) != 0) continue;
    slow_fflush(stream, real_fflush);
    funlockfile(stream);
  }
  errno = saved;
}
