// Programs that are about to be started and into which the loader will not load this library. They are named in the summary.
#include "preload.h"
#include <elf.h>
#include <sys/xattr.h>

void note_escape(uint32_t reason, const char *path) {
  for (uint32_t i = 0; i < TRACE_ESCAPES; i++) {
    struct trace_escape *escape = &session->escapes[i];
    uint32_t state = __atomic_load_n(&escape->state, __ATOMIC_ACQUIRE);
    if (state == 2 && escape->reason == reason && strncmp(escape->path, path, sizeof escape->path - 1) == 0) {
      __atomic_fetch_add(&escape->starts, 1, __ATOMIC_RELAXED);
      return;
    }
    if (state != 0 || !__atomic_compare_exchange_n(&escape->state, &state, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
    size_t length = strnlen(path, sizeof escape->path - 1);
    memcpy(escape->path, path, length);
    escape->path[length] = 0;
    escape->reason = reason;
    escape->starts = 1;
    __atomic_store_n(&escape->state, 2, __ATOMIC_RELEASE);
    return;
  }
  __atomic_fetch_add(&session->escapes_beyond, 1, __ATOMIC_RELAXED);
}

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#else
#define OWN_MACHINE EM_AARCH64
#endif

/// The loader ignores preloaded libraries where a program gains rights (ld.so(8)).
static bool gains_rights(int fd, const struct stat *status) {
  if (status->st_mode & S_ISUID && status->st_uid != (uid_t)RAW(SYS_getuid)) return true;
  if ((status->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && status->st_gid != (gid_t)RAW(SYS_getgid)) return true;
  return RAW(SYS_getuid) != 0 && RAW(SYS_fgetxattr, fd, "security.capability", 0, 0) > 0;
}

/// A reason of an ELF file's beginning (elf(5)), or 0.
static uint32_t reason_of_image(const char *bytes, long length) {
  Elf64_Ehdr header;
  memcpy(&header, bytes, sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != OWN_MACHINE) return TRACE_ESCAPE_ARCHITECTURE;
  if (header.e_phentsize < sizeof(Elf64_Phdr)) return 0;
  for (uint32_t i = 0; i < header.e_phnum; i++) {
    uint64_t at = header.e_phoff + (uint64_t)i * header.e_phentsize;
    // What lies beyond the beginning is not looked at; no common linker puts the table there.
    if (at > (uint64_t)length || (uint64_t)length - at < sizeof(Elf64_Phdr)) return 0;
    Elf64_Phdr part;
    memcpy(&part, bytes + at, sizeof part);
    if (part.p_type != PT_INTERP) continue;
    if (part.p_offset > (uint64_t)length || (uint64_t)length - part.p_offset < part.p_filesz) return 0;
    return memmem(bytes + part.p_offset, part.p_filesz, "musl", 4) ? TRACE_ESCAPE_LIBC : 0;
  }
  return TRACE_ESCAPE_STATIC;
}

/// The interpreter that a script's first line names.
static bool interpreter_of(const char *bytes, long length, char *name, long room) {
  if (length < 3 || bytes[0] != '#' || bytes[1] != '!') return false;
  long at = 2, count = 0;
  while (at < length && (bytes[at] == ' ' || bytes[at] == '\t')) at++;
  while (at < length && count < room - 1 && bytes[at] && !strchr(" \t\n", bytes[at])) name[count++] = bytes[at++];
  name[count] = 0;
  return count > 0;
}

static void examine(int folder, const char *path, int depth) {
  struct stat status;
  int fd = (int)RAW(SYS_openat, folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return;
  bool regular = RAW(SYS_fstat, fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_mode & 0111;
  long length = regular && status.st_size > 0 ? (status.st_size < 4096 ? status.st_size : 4096) : 0;
  // Mapped, since the kernel would count what was read as the program's.
  long mapped = length ? RAW(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, fd, 0) : -1;
  bool rights = regular && gains_rights(fd, &status);
  RAW(SYS_close, fd);
  if (mapped < 0 && mapped > -4096) return;
  char interpreter[256];
  const char *bytes = (const char *)mapped;
  bool image = length >= (long)sizeof(Elf64_Ehdr) && memcmp(bytes, ELFMAG, SELFMAG) == 0;
  uint32_t reason = !image ? 0 : rights ? TRACE_ESCAPE_PRIVILEGES : reason_of_image(bytes, length);
  // A script runs as its interpreter; rights that the script's file has are not given.
  bool script = !image && interpreter_of(bytes, length, interpreter, sizeof interpreter);
  RAW(SYS_munmap, mapped, 4096);
  if (reason) note_escape(reason, path);
  if (script && depth < 4) examine(AT_FDCWD, interpreter, depth + 1);
}

COLD void examine_program(int folder, const char *path) {
  if (path && session->active) examine(folder, path, 0);
}
