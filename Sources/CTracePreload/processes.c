// New programs: the recorder's two environment variables survive a program that scrubs its environment.
#include "preload.h"
#include <alloca.h>

#define PRELOAD_VARIABLE "LD_PRELOAD"
static char run_entry[320], preload_entry[4096];
static const char *library_path;

static const char *variable_value(const char *entry, const char *name) {
  size_t length = strlen(name);
  return strncmp(entry, name, length) == 0 && entry[length] == '=' ? entry + length + 1 : NULL;
}

/// Keeps what this process was started with. The session names no library: the last entry of LD_PRELOAD that ends in our name is it.
void attach_session(void) {
  for (char **entry = environ; entry && *entry; entry++) {
    if (variable_value(*entry, TRACE_RUN_VARIABLE) && strlen(*entry) < sizeof run_entry) strcpy(run_entry, *entry);
    if (variable_value(*entry, PRELOAD_VARIABLE) && strlen(*entry) < sizeof preload_entry) strcpy(preload_entry, *entry);
  }
  const char *name = strstr(preload_entry, "/libtracepreload.so");
  if (!name) return;
  const char *start = name;
  while (start > preload_entry && start[-1] != ':' && start[-1] != ' ' && start[-1] != '=') start--;
  library_path = start;
}

/// False when the library is out of the reach of this process: it changed its root directory.
static bool library_is_reachable(void) {
  if (!library_path) return true;
  char path[4096];
  size_t length = strcspn(library_path, ": ");
  if (length >= sizeof path) return true;
  memcpy(path, library_path, length);
  path[length] = 0;
  return RAW(SYS_faccessat, AT_FDCWD, path, R_OK) == 0;
}

static void note_other_root(int folder, const char *path) {
  if (path && RAW(SYS_faccessat, folder, path, X_OK) == 0) note_escape(TRACE_ESCAPE_ROOT, path);
}

static bool names_library(const char *value) { return strstr(value, "/libtracepreload.so") != NULL; }

/// True when `env` already carries both variables, or nothing is recorded.
static bool carries_session(char *const *env, size_t *count) {
  bool run = false, library = false;
  *count = 0;
  for (; env && *env; env++, ++*count) {
    const char *value;
    if ((value = variable_value(*env, TRACE_RUN_VARIABLE))) run = true;
    if ((value = variable_value(*env, PRELOAD_VARIABLE)) && names_library(value)) library = true;
  }
  return (run && library) || !library_path || !session->active || !run_entry[0];
}

/// Fills `out` (room for count + 3 entries) with env and our variables; `text` has room for the joined LD_PRELOAD.
static char *const *join_environment(char *const *env, char **out, char *text) {
  char **at = out;
  const char *others = NULL;
  for (; env && *env; env++) {
    const char *value = variable_value(*env, PRELOAD_VARIABLE);
    if (value && names_library(value)) value = NULL, *at++ = *env, others = "";
    else if (value) others = value;
    else if (!variable_value(*env, TRACE_RUN_VARIABLE)) *at++ = *env;
  }
  if (!others || *others) {
    // The program's own libraries stay in front: a sanitizer's runtime insists on being first.
    char *end = stpcpy(text, PRELOAD_VARIABLE "=");
    if (others) end = stpcpy(stpcpy(end, others), ":");
    size_t length = strcspn(library_path, ": ");
    memcpy(end, library_path, length);
    end[length] = 0;
    *at++ = text;
  }
  *at++ = run_entry;
  *at = NULL;
  return out;
}

/// The same without our variables: the loader would complain of a library that it can't find.
static char *const *leave_environment(char *const *env, char **out, char *text) {
  char **at = out;
  for (; env && *env; env++) {
    const char *value = variable_value(*env, PRELOAD_VARIABLE);
    if (variable_value(*env, TRACE_RUN_VARIABLE)) continue;
    if (!value || !names_library(value)) {
      *at++ = *env;
      continue;
    }
    const char *name = strstr(value, "/libtracepreload.so"), *start = name;
    while (start > value && start[-1] != ':' && start[-1] != ' ') start--;
    const char *rest = name + strcspn(name, ": ");
    if (start == value && !*rest) continue;
    char *end = stpcpy(text, PRELOAD_VARIABLE "=");
    end = mempcpy(end, value, (size_t)(start - value));
    strcpy(end, *rest ? rest + 1 : rest);
    *at++ = text;
  }
  *at = NULL;
  return out;
}

/// What execvp would start, as far as it can be told without starting it.
static const char *search_program(const char *file, char *room, size_t bytes) {
  if (strchr(file, '/')) return file;
  const char *folders = NULL;
  for (char **entry = environ; entry && *entry && !folders; entry++) folders = variable_value(*entry, "PATH");
  if (!folders) folders = "/bin:/usr/bin";
  size_t name = strlen(file);
  for (;; folders++) {
    size_t length = strcspn(folders, ":");
    if (length > 0 && length + name + 2 < bytes) {
      char *at = mempcpy(room, folders, length);
      *at++ = '/';
      memcpy(at, file, name + 1);
      if (RAW(SYS_faccessat, AT_FDCWD, room, X_OK) == 0) return room;
    }
    folders += length;
    if (!*folders) return NULL;
  }
}

static size_t preload_length(char *const *env) {
  for (; env && *env; env++) {
    const char *value = variable_value(*env, PRELOAD_VARIABLE);
    if (value) return strlen(value);
  }
  return 0;
}

// The array lives on the caller's stack: between fork and exec there is no malloc.
#define WITH_SESSION(folder, path, env)                                                                   \
  size_t env_count;                                                                                       \
  bool carried = carries_session(env, &env_count);                                                        \
  bool reachable = !session->active || library_is_reachable();                                            \
  if (!reachable) note_other_root(folder, path);                                               \
  else examine_program(folder, path);                                                                     \
  if ((!carried || !reachable) && env_count < 65536) {                                                    \
    size_t text_bytes = preload_length(env) + sizeof preload_entry + 16;                                  \
    char **joined = alloca((env_count + 3) * sizeof *joined);                                             \
    char *text = alloca(text_bytes);                                                                      \
    env = reachable ? join_environment(env, joined, text) : leave_environment(env, joined, text);         \
  }
#define WITH_SESSION_SEARCHED(file, env)                                                                  \
  char searched[4096];                                                                                    \
  const char *found = session->active ? search_program(file, searched, sizeof searched) : NULL;   \
  WITH_SESSION(AT_FDCWD, found, env)

EXPORT int execve(const char *path, char *const *argv, char *const *env) {
  WITH_SESSION(AT_FDCWD, path, env)
  return real_execve(path, argv, env);
}

EXPORT int execv(const char *path, char *const *argv) {
  char *const *env = environ;
  WITH_SESSION(AT_FDCWD, path, env)
  return real_execve(path, argv, env);
}

EXPORT int execvpe(const char *file, char *const *argv, char *const *env) {
  WITH_SESSION_SEARCHED(file, env)
  return real_execvpe(file, argv, env);
}

EXPORT int execvp(const char *file, char *const *argv) {
  char *const *env = environ;
  WITH_SESSION_SEARCHED(file, env)
  return real_execvpe(file, argv, env);
}

EXPORT int fexecve(int fd, char *const *argv, char *const *env) {
  char link[40] = "/proc/self/fd/";
  *append_number(link + 14, (uint32_t)fd) = 0;
  WITH_SESSION(AT_FDCWD, link, env)
  return real_fexecve(fd, argv, env);
}

EXPORT int execveat(int folder, const char *path, char *const *argv, char *const *env, int flags) {
  WITH_SESSION(folder, path, env)
  return real_execveat(folder, path, argv, env, flags);
}

#define COLLECT_ARGUMENTS(first)                                             \
  va_list list;                                                              \
  size_t argument_count = 1;                                                 \
  va_start(list, first);                                                     \
  while (va_arg(list, char *)) argument_count++;                             \
  va_end(list);                                                              \
  char **argv = alloca((argument_count + 1) * sizeof *argv);                 \
  argv[0] = (char *)first;                                                   \
  va_start(list, first);                                                     \
  for (size_t i = 1; i <= argument_count; i++) argv[i] = va_arg(list, char *);

EXPORT int execl(const char *path, const char *first, ...) {
  COLLECT_ARGUMENTS(first)
  va_end(list);
  return execv(path, argv);
}

EXPORT int execlp(const char *file, const char *first, ...) {
  COLLECT_ARGUMENTS(first)
  va_end(list);
  return execvp(file, argv);
}

EXPORT int execle(const char *path, const char *first, ...) {
  COLLECT_ARGUMENTS(first)
  char *const *env = va_arg(list, char *const *);
  va_end(list);
  return execve(path, argv, env);
}

EXPORT int posix_spawn(
    pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
    char *const *argv, char *const *env) {
  WITH_SESSION(AT_FDCWD, path, env)
  return real_posix_spawn(pid, path, actions, attributes, argv, env);
}

EXPORT int posix_spawnp(
    pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
    char *const *argv, char *const *env) {
  WITH_SESSION_SEARCHED(file, env)
  return real_posix_spawnp(pid, file, actions, attributes, argv, env);
}

// ---- vfork and syscall, which need their caller's stack as it is ------------------------------------------------------

#if defined(__x86_64__)
// The child runs on the parent's stack and in its memory, its thread variables included: it sets a mark that makes every
// wrapper pass calls through, and the parent, which sleeps until the child is gone, takes it away. The return address waits
// in a register, because the child's calls overwrite the stack. (As in glibc's own vfork.)
__asm__(
    ".text\n.globl vfork\n.type vfork,@function\nvfork:\n"
    ".cfi_startproc\n"
    "  popq %rdi\n  .cfi_adjust_cfa_offset -8\n  .cfi_register %rip, %rdi\n"
    "  movl $58, %eax\n"
    "  syscall\n"
    "  pushq %rdi\n  .cfi_adjust_cfa_offset 8\n"
    "  movq me@gottpoff(%rip), %rcx\n"
    "  addq $trace_in_vfork_offset, %rcx\n"
    "  testq %rax, %rax\n"
    "  jz 1f\n"
    "  movl $0, %fs:(%rcx)\n"
    "  js 2f\n"
    "  ret\n"
    "1: movl $1, %fs:(%rcx)\n"
    "  ret\n"
    "2: pushq %rax\n  .cfi_adjust_cfa_offset 8\n"
    "  call *__errno_location@GOTPCREL(%rip)\n"
    "  popq %rcx\n  .cfi_adjust_cfa_offset -8\n"
    "  negl %ecx\n"
    "  movl %ecx, (%rax)\n"
    "  movq $-1, %rax\n"
    "  ret\n"
    ".cfi_endproc\n.size vfork,.-vfork\n"
    ".globl __vfork\n.set __vfork, vfork\n"
    ".set trace_in_vfork_offset, 16\n");
_Static_assert(offsetof(struct thread_state, in_vfork) == 16, "the assembly above adds it");

// Numbers that are not recorded jump on to libc with registers and stack as they came.
__asm__(
    ".text\n.globl syscall\n.type syscall,@function\nsyscall:\n"
    ".cfi_startproc\n"
    "  cmpq $512, %rdi\n"
    "  jae 1f\n"
    "  leaq recorded_numbers(%rip), %rax\n"
    "  movzbl (%rax,%rdi), %eax\n"
    "  testl %eax, %eax\n"
    "  jz 1f\n"
    "  cmpl $1, %eax\n"
    "  je syscall_recorded\n"
    "  lock incl process_generation(%rip)\n"
    "1: jmpq *real_syscall(%rip)\n"
    ".cfi_endproc\n.size syscall,.-syscall\n");
#endif

/// The numbers that `syscall` records (1), and those that make a child (2): positions are shared with it from then on.
static const uint8_t wanted_numbers[512] = {
    [SYS_read] = 1, [SYS_write] = 1, [SYS_pread64] = 1, [SYS_pwrite64] = 1, [SYS_readv] = 1, [SYS_writev] = 1,
    [SYS_preadv] = 1, [SYS_pwritev] = 1, [SYS_preadv2] = 1, [SYS_pwritev2] = 1, [SYS_fsync] = 1, [SYS_fdatasync] = 1,
    [SYS_ftruncate] = 1, [SYS_fallocate] = 1, [SYS_lseek] = 1, [SYS_openat] = 1, [SYS_close] = 1, [SYS_close_range] = 1,
    [SYS_dup] = 1, [SYS_dup3] = 1, [SYS_copy_file_range] = 1, [SYS_sendfile] = 1,
    [SYS_splice] = 1, [SYS_tee] = 1, [SYS_vmsplice] = 1, [SYS_msync] = 1, [SYS_truncate] = 1, [SYS_linkat] = 1,
    [SYS_renameat] = 1, [SYS_sendto] = 1, [SYS_sendmsg] = 1, [SYS_sendmmsg] = 1, [SYS_recvfrom] = 1, [SYS_recvmsg] = 1,
    [SYS_recvmmsg] = 1, [SYS_connect] = 1, [SYS_accept] = 1, [SYS_accept4] = 1, [SYS_mmap] = 1, [SYS_munmap] = 1,
    [SYS_io_submit] = 1, [SYS_io_getevents] = 1, [SYS_io_pgetevents] = 1, [SYS_io_cancel] = 1, [SYS_io_uring_setup] = 1,
    [SYS_io_uring_enter] = 1, [SYS_io_uring_register] = 1, [SYS_openat2] = 1, [SYS_memfd_create] = 1,
    [SYS_clone] = 2, [SYS_clone3] = 2, [SYS_unlinkat] = 1, [SYS_renameat2] = 1, [SYS_sync_file_range] = 1,
#if defined(__x86_64__)
    [SYS_open] = 1, [SYS_creat] = 1, [SYS_dup2] = 1, [SYS_fork] = 2, [SYS_unlink] = 1, [SYS_rename] = 1, [SYS_link] = 1,
#endif
};

/// Empty until the process is attached.
__attribute__((used)) uint8_t recorded_numbers[512];
void record_numbers(void) { memcpy(recorded_numbers, wanted_numbers, sizeof recorded_numbers); }

/// A call by number goes through the wrapper of its function, which ends in the same system call.
__attribute__((used)) long syscall_recorded(long number, ...) {
  va_list list;
  va_start(list, number);
  long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
  long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
  va_end(list);
  switch (number) {
    case SYS_read: return read((int)a, (void *)b, (size_t)c);
    case SYS_write: return write((int)a, (const void *)b, (size_t)c);
    case SYS_pread64: return pread((int)a, (void *)b, (size_t)c, d);
    case SYS_pwrite64: return pwrite((int)a, (const void *)b, (size_t)c, d);
    case SYS_readv: return readv((int)a, (const struct iovec *)b, (int)c);
    case SYS_writev: return writev((int)a, (const struct iovec *)b, (int)c);
    case SYS_preadv: return preadv((int)a, (const struct iovec *)b, (int)c, d);
    case SYS_pwritev: return pwritev((int)a, (const struct iovec *)b, (int)c, d);
    case SYS_preadv2: return preadv2((int)a, (const struct iovec *)b, (int)c, d, (int)f);
    case SYS_pwritev2: return pwritev2((int)a, (const struct iovec *)b, (int)c, d, (int)f);
    case SYS_fsync: return fsync((int)a);
    case SYS_fdatasync: return fdatasync((int)a);
    case SYS_sync_file_range: return sync_file_range((int)a, b, c, (unsigned)d);
    case SYS_ftruncate: return ftruncate((int)a, b);
    case SYS_fallocate: return fallocate((int)a, (int)b, c, d);
    case SYS_lseek: return lseek((int)a, b, (int)c);
    case SYS_openat: return openat((int)a, (const char *)b, (int)c, (mode_t)d);
    case SYS_close: return close((int)a);
    case SYS_close_range: return close_range((unsigned)a, (unsigned)b, (int)c);
    case SYS_dup: return dup((int)a);
    case SYS_dup3: return dup3((int)a, (int)b, (int)c);
    case SYS_copy_file_range: return copy_file_range((int)a, (off64_t *)b, (int)c, (off64_t *)d, (size_t)e, (unsigned)f);
    case SYS_sendfile: return sendfile((int)a, (int)b, (off_t *)c, (size_t)d);
    case SYS_unlinkat: return unlinkat((int)a, (const char *)b, (int)c);
    case SYS_renameat2: return renameat2((int)a, (const char *)b, (int)c, (const char *)d, (unsigned)e);
    case SYS_splice: return splice((int)a, (off64_t *)b, (int)c, (off64_t *)d, (size_t)e, (unsigned)f);
    case SYS_tee: return tee((int)a, (int)b, (size_t)c, (unsigned)d);
    case SYS_vmsplice: return vmsplice((int)a, (const struct iovec *)b, (size_t)c, (unsigned)d);
    case SYS_msync: return msync((void *)a, (size_t)b, (int)c);
    case SYS_truncate: return truncate((const char *)a, b);
    case SYS_linkat: return linkat((int)a, (const char *)b, (int)c, (const char *)d, (int)e);
    case SYS_renameat: return renameat((int)a, (const char *)b, (int)c, (const char *)d);
    case SYS_sendto: return sendto((int)a, (const void *)b, (size_t)c, (int)d, (const struct sockaddr *)e, (socklen_t)f);
    case SYS_sendmsg: return sendmsg((int)a, (const struct msghdr *)b, (int)c);
    case SYS_sendmmsg: return sendmmsg((int)a, (struct mmsghdr *)b, (unsigned)c, (int)d);
    case SYS_recvfrom: return recvfrom((int)a, (void *)b, (size_t)c, (int)d, (struct sockaddr *)e, (socklen_t *)f);
    case SYS_recvmsg: return recvmsg((int)a, (struct msghdr *)b, (int)c);
    case SYS_recvmmsg: return recvmmsg((int)a, (struct mmsghdr *)b, (unsigned)c, (int)d, (struct timespec *)e);
    case SYS_connect: return connect((int)a, (const struct sockaddr *)b, (socklen_t)c);
    case SYS_accept: return accept((int)a, (struct sockaddr *)b, (socklen_t *)c);
    case SYS_accept4: return accept4((int)a, (struct sockaddr *)b, (socklen_t *)c, (int)d);
    case SYS_mmap: return (long)mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f);
    case SYS_munmap: return munmap((void *)a, (size_t)b);
    case SYS_memfd_create: return memfd_create((const char *)a, (unsigned)b);
    case SYS_io_submit: return io_submit_by_number(a, b, (void *)c);
    case SYS_io_getevents:
    case SYS_io_pgetevents: return io_getevents_by_number(number, a, b, c, (void *)d, (void *)e, (void *)f);
    case SYS_io_cancel: return io_cancel_by_number(a, (void *)b, (void *)c);
    case SYS_io_uring_setup: return uring_setup_by_number(a, (void *)b);
    case SYS_io_uring_enter: return uring_enter_by_number(a, b, c, d, e, f);
    case SYS_io_uring_register: return uring_register_by_number(a, b, (void *)c, d);
    case SYS_openat2: return open_by_number((int)a, (const char *)b, (const struct open_how *)c, (size_t)d);
#if defined(__x86_64__)
    case SYS_link: return link((const char *)a, (const char *)b);
    case SYS_open: return open((const char *)a, (int)b, (mode_t)c);
    case SYS_creat: return creat((const char *)a, (mode_t)b);
    case SYS_dup2: return dup2((int)a, (int)b);
    case SYS_unlink: return unlink((const char *)a);
    case SYS_rename: return rename((const char *)a, (const char *)b);
#endif
  }
  return real_syscall(number, a, b, c, d, e, f);
}

#if !defined(__x86_64__)
EXPORT long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
  long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
  va_end(list);
  uint8_t kind = number >= 0 && number < 512 ? recorded_numbers[number] : 0;
  if (kind == 2) process_generation++;
  if (kind == 1) return syscall_recorded(number, a, b, c, d, e, f);
  return real_syscall(number, a, b, c, d, e, f);
}
#endif
