// Descriptors, the open file descriptions that they stand for, and the definitions that tell the collector what those are.
#include "preload.h"
#include <linux/fs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

static uint32_t no_descriptors[1];
uint32_t *descriptor_table = no_descriptors;
struct description *descriptions;
uint32_t process_generation = 1;

static uint32_t descriptions_used = 1;
/// Free list: index in the low half, a count against reuse between load and exchange in the high half.
static uint64_t free_descriptions;

static void *reserve_memory(uint64_t bytes) {
  long mapped = RAW(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return mapped < 0 && mapped > -4096 ? NULL : (void *)mapped;
}

bool descriptions_prepare(void) {
  uint32_t *table = reserve_memory(MAX_DESCRIPTORS * sizeof *table);
  descriptions = reserve_memory(MAX_DESCRIPTIONS * sizeof *descriptions);
  if (!table || !descriptions) return false;
  descriptor_table = table;
  return true;
}

static struct description *allocate_description(void) {
  uint64_t top = __atomic_load_n(&free_descriptions, __ATOMIC_ACQUIRE);
  while ((uint32_t)top) {
    uint64_t next = ((top >> 32) + 1) << 32 | descriptions[(uint32_t)top].next_free;
    if (!__atomic_compare_exchange_n(&free_descriptions, &top, next, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) continue;
    struct description *description = &descriptions[(uint32_t)top];
    memset(description, 0, sizeof *description);
    return description;
  }
  uint32_t index = __atomic_fetch_add(&descriptions_used, 1, __ATOMIC_RELAXED);
  if (index < MAX_DESCRIPTIONS) return &descriptions[index];
  __atomic_fetch_sub(&descriptions_used, 1, __ATOMIC_RELAXED);
  return NULL;
}

static void drop_reference(struct description *description) {
  if (__atomic_sub_fetch(&description->references, 1, __ATOMIC_ACQ_REL) != 0) return;
  if (UNLIKELY(description->uring)) uring_is_closed(description);
  uint64_t index = (uint64_t)(description - descriptions);
  uint64_t top = __atomic_load_n(&free_descriptions, __ATOMIC_ACQUIRE);
  uint64_t next;
  do {
    description->next_free = (uint32_t)top;
    next = ((top >> 32) + 1) << 32 | index;
  } while (!__atomic_compare_exchange_n(&free_descriptions, &top, next, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
}

static void set_descriptor(int fd, struct description *description) {
  uint32_t index = description ? (uint32_t)(description - descriptions) : 0;
  uint32_t old = __atomic_exchange_n(&descriptor_table[fd], index, __ATOMIC_ACQ_REL);
  if (old) drop_reference(&descriptions[old]);
}

void forget_descriptor(int fd) {
  if ((unsigned)fd < MAX_DESCRIPTORS && descriptor_table != no_descriptors && !me.in_vfork && descriptor_table[fd])
    set_descriptor(fd, NULL);
}

void share_descriptor(int fd, struct description *source) {
  if ((unsigned)fd >= MAX_DESCRIPTORS) return;
  if (source) __atomic_fetch_add(&source->references, 1, __ATOMIC_RELAXED);
  set_descriptor(fd, source);
}

uint32_t description_flags(int open_flags) {
  uint32_t flags = 0;
  if (open_flags & O_DIRECT) flags |= TRACE_FLAG_DIRECT;
  if ((open_flags & O_SYNC) == O_SYNC) flags |= TRACE_FLAG_SYNC;
  else if (open_flags & O_DSYNC) flags |= TRACE_FLAG_DATA_SYNC;
  if (open_flags & O_APPEND) flags |= TRACE_FLAG_APPEND;
  return flags;
}

// ---- Sharing of positions -------------------------------------------------------------------------------------------

void mark_shared(struct description *description) { description->private_generation = 0; }

bool position_is_shared(struct description *description) {
  if (description->private_generation != process_generation) return true;
  uint32_t epoch = __atomic_load_n(&session->share_epoch, __ATOMIC_ACQUIRE);
  if (description->private_epoch == epoch) return false;
  uint32_t bit = trace_share_bit(description->device, description->inode);
  if (__atomic_load_n(&session->share_map[bit / 64], __ATOMIC_RELAXED) >> (bit % 64) & 1) {
    mark_shared(description);
    return true;
  }
  description->private_epoch = epoch;
  return false;
}

COLD uint64_t offset_from_kernel(struct description *description, int fd, int64_t moved, uint32_t *flags) {
  bool appended = *flags & TRACE_FLAG_APPEND && moved > 0;
  if (!appended && !position_is_shared(description)) {
    if (moved <= 0) return __atomic_load_n(&description->position, __ATOMIC_RELAXED);
    return __atomic_fetch_add(&description->position, (uint64_t)moved, __ATOMIC_RELAXED);
  }
  int64_t after = RAW(SYS_lseek, fd, 0, SEEK_CUR);
  if (after < 0) return TRACE_UNKNOWN_OFFSET;
  int64_t before = after - (moved > 0 ? moved : 0);
  // The kernel's position stands where this process left it: nobody else moved it, so the offset is certain.
  uint64_t followed = __atomic_exchange_n(&description->position, (uint64_t)after, __ATOMIC_RELAXED);
  if (*flags & TRACE_FLAG_APPEND ? moved > 0 : followed != (uint64_t)before) *flags |= TRACE_FLAG_INFERRED_OFFSET;
  return before < 0 ? TRACE_UNKNOWN_OFFSET : (uint64_t)before;
}

/// Records of a directory as getdents64(2) gives them.
struct directory_record {
  uint64_t inode;
  int64_t next;
  uint16_t bytes;
  uint8_t type;
  char name[];
};

static void announce_inherited(int fd, bool *any) {
  struct stat status;
  if (RAW(SYS_fstat, fd, &status) != 0 || !(S_ISREG(status.st_mode) || S_ISBLK(status.st_mode))) return;
  uint64_t device = (uint64_t)major(status.st_dev) << 32 | minor(status.st_dev);
  uint32_t bit = trace_share_bit(device, status.st_ino);
  __atomic_fetch_or(&session->share_map[bit / 64], 1ull << (bit % 64), __ATOMIC_RELAXED);
  *any = true;
}

void announce_inherited_files(void) {
  int folder = (int)RAW(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  bool any = false;
  _Alignas(8) char buffer[2048];
  long count;
  while ((count = RAW(SYS_getdents64, folder, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < count;) {
      struct directory_record *record = (struct directory_record *)(buffer + at);
      at += record->bytes;
      int fd = 0;
      const char *digit = record->name;
      for (; *digit >= '0' && *digit <= '9'; digit++) fd = fd * 10 + (*digit - '0');
      if (digit != record->name && fd != folder) announce_inherited(fd, &any);
    }
  }
  RAW(SYS_close, folder);
  if (any) __atomic_fetch_add(&session->share_epoch, 1, __ATOMIC_RELEASE);
}

// ---- Definitions ------------------------------------------------------------------------------------------------------

static uint32_t kind_of_mode(unsigned mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return TRACE_KIND_REGULAR;
    case S_IFBLK: return TRACE_KIND_BLOCK;
    case S_IFCHR: return TRACE_KIND_CHARACTER;
    case S_IFDIR: return TRACE_KIND_DIRECTORY;
    case S_IFIFO: return TRACE_KIND_PIPE;
    case S_IFSOCK: return TRACE_KIND_SOCKET;
    case S_IFLNK: return TRACE_KIND_LINK;
    default: return TRACE_KIND_ANONYMOUS;
  }
}

static void fill_definition(struct trace_definition *definition, const struct statx *status) {
  definition->birth_ns = TRACE_UNKNOWN_BIRTH;
  definition->size = TRACE_UNKNOWN_SIZE;
  definition->open_flags = UINT32_MAX;
  if (!status) return;
  definition->kind = kind_of_mode(status->stx_mode);
  definition->device = (uint64_t)status->stx_dev_major << 32 | status->stx_dev_minor;
  definition->inode = status->stx_ino;
  if (S_ISBLK(status->stx_mode) || S_ISCHR(status->stx_mode))
    definition->represented_device = (uint64_t)status->stx_rdev_major << 32 | status->stx_rdev_minor;
  else
    definition->size = status->stx_size;
  if (status->stx_mask & STATX_BTIME)
    definition->birth_ns = status->stx_btime.tv_sec * 1000000000ll + status->stx_btime.tv_nsec;
}

/// Publishes a definition and its path; false when the ring has no room for it.
static bool publish(const struct trace_definition *definition, const char *path) {
  struct trace_ring *ring = me.ring;
  uint32_t bytes = sizeof *definition + definition->path_bytes;
  uint32_t count = 1 + (bytes + sizeof(struct trace_record) - 1) / sizeof(struct trace_record);
  uint64_t number;
  while ((number = reserve_slots(ring, count, ring->record_count)) == UINT64_MAX)
    if (!ring_is_full(ring, 0, true)) return false;
  memcpy(ring_slot(ring, number + 1), definition, sizeof *definition);
  uint32_t left = definition->path_bytes;
  for (uint32_t i = 2; i < count; i++) {
    uint32_t part = left < sizeof(struct trace_record) ? left : sizeof(struct trace_record);
    memcpy(ring_slot(ring, number + i), path, part);
    path += part;
    left -= part;
  }
  struct trace_record *slot = ring_slot(ring, number);
  slot->operation = TRACE_OP_DEFINITION;
  slot->phase = TRACE_PHASE_CALL;
  slot->size = bytes;
  slot->thread_id = me.thread_id;
  publish_slot(slot, number);
  return true;
}

/// The path that the kernel has for a descriptor; its length, 0 when it has none.
static uint32_t path_of_descriptor(int fd, char *path, uint32_t room, bool unlinked) {
  char link[40] = "/proc/self/fd/";
  *append_number(link + 14, (uint32_t)fd) = 0;
  long length = RAW(SYS_readlinkat, AT_FDCWD, link, path, room);
  if (length <= 0) return 0;
  if (unlinked && length > 10 && memcmp(path + length - 10, " (deleted)", 10) == 0) length -= 10;
  return (uint32_t)length;
}

static void describe_file(struct description *description, int fd, int open_flags) {
  struct trace_definition definition = {.description = description->id};
  struct statx status;
  memset(&status, 0, sizeof status);
  bool known = RAW(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &status) == 0;
  fill_definition(&definition, known ? &status : NULL);
  struct statfs filesystem;
  if (RAW(SYS_fstatfs, fd, &filesystem) == 0) definition.filesystem_type = (uint64_t)filesystem.f_type & 0xffffffff;
  definition.open_flags = (uint32_t)open_flags;
  char path[4096];
  definition.path_bytes = path_of_descriptor(fd, path, sizeof path, known && status.stx_nlink == 0);
  if (definition.kind == TRACE_KIND_SOCKET) {
    // A peer is one file, however many connections there were to it.
    uint32_t named = name_socket(fd, path);
    if (named) {
      definition.path_bytes = named;
      definition.device = definition.inode = 0;
      definition.size = TRACE_UNKNOWN_SIZE;
      definition.birth_ns = TRACE_UNKNOWN_BIRTH;
      definition.open_flags = UINT32_MAX;
    } else {
      definition.path_bytes = path_of_descriptor(fd, path, sizeof path, false);
    }
  }
  description->device = definition.device;
  description->inode = definition.inode;
  description->kind = (uint8_t)definition.kind;
  description->seekable = definition.kind == TRACE_KIND_REGULAR || definition.kind == TRACE_KIND_BLOCK;
  description->defined = publish(&definition, path);
}

static struct description *new_description(int fd, int open_flags) {
  struct description *description = allocate_description();
  if (!description) return NULL;
  description->id = __atomic_add_fetch(&session->next_description, 1, __ATOMIC_RELAXED);
  description->flags = description_flags(open_flags);
  description->references = 1;
  description->owner = me.slot;
  describe_file(description, fd, open_flags);
  return description;
}

COLD void publish_definition(struct description *description, int fd) {
  long open_flags = RAW(SYS_fcntl, fd, F_GETFL);
  if (open_flags >= 0) describe_file(description, fd, (int)open_flags);
}

COLD struct description *describe_unknown(int fd) {
  long open_flags = RAW(SYS_fcntl, fd, F_GETFL);
  if (open_flags < 0 || open_flags & O_PATH) return NULL;
  struct description *description = new_description(fd, (int)open_flags);
  if (!description) return NULL;
  // It may be another process's too, or stdio's, which moves the position by itself: so the kernel is asked each time.
  mark_shared(description);
  if (description->seekable) {
    long position = RAW(SYS_lseek, fd, 0, SEEK_CUR);
    if (position >= 0) description->position = (uint64_t)position;
    else description->seekable = false;
  }
  uint32_t none = 0, index = (uint32_t)(description - descriptions);
  if (__atomic_compare_exchange_n(&descriptor_table[fd], &none, index, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    return description;
  drop_reference(description);
  return &descriptions[none];
}

COLD struct description *describe_opened(int fd, int flags) {
  if ((unsigned)fd >= MAX_DESCRIPTORS) return NULL;
  struct description *description = new_description(fd, flags);
  if (description) {
    description->private_generation = process_generation;
    description->private_epoch = __atomic_load_n(&session->share_epoch, __ATOMIC_ACQUIRE);
  }
  set_descriptor(fd, description);
  return description;
}

// ---- Names without a descriptor ---------------------------------------------------------------------------------------

/// Writes the absolute path of `path` below `folder`, without "." and doubled slashes; its length.
static uint32_t absolute_path(int folder, const char *path, char *out, uint32_t room) {
  uint32_t length = 0;
  if (path[0] != '/') {
    if (folder == AT_FDCWD) {
      long bytes = RAW(SYS_getcwd, out, room);
      if (bytes > 1) length = (uint32_t)bytes - 1;
    } else {
      length = path_of_descriptor(folder, out, room, false);
    }
    if (length == 1 && out[0] == '/') length = 0;
  }
  while (*path) {
    while (*path == '/') path++;
    const char *part = path;
    while (*path && *path != '/') path++;
    uint32_t bytes = (uint32_t)(path - part);
    if (bytes == 0 || (bytes == 1 && part[0] == '.')) continue;
    if (length + bytes + 1 > room) break;
    out[length++] = '/';
    memcpy(out + length, part, bytes);
    length += bytes;
  }
  if (length == 0) out[length++] = '/';
  return length;
}

uint32_t define_peer(const char *name, uint32_t length) {
  struct trace_definition definition = {
    .description = __atomic_add_fetch(&session->next_description, 1, __ATOMIC_RELAXED)};
  fill_definition(&definition, NULL);
  definition.kind = TRACE_KIND_SOCKET;
  definition.path_bytes = length;
  return publish(&definition, name) ? definition.description : TRACE_NO_DESCRIPTION;
}

uint32_t define_name(int folder, const char *path, const struct statx *status) {
  if (!path) return TRACE_NO_DESCRIPTION;
  struct trace_definition definition = {
    .description = __atomic_add_fetch(&session->next_description, 1, __ATOMIC_RELAXED)};
  fill_definition(&definition, status);
  char absolute[4096];
  definition.path_bytes = absolute_path(folder, path, absolute, sizeof absolute);
  return publish(&definition, absolute) ? definition.description : TRACE_NO_DESCRIPTION;
}
