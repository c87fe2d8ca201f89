// A program that is started and waits before its first instruction, so that a recorder can attach to it.
#define _GNU_SOURCE
#include "CTrace.h"
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>

enum { GATE_SHUT, GATE_OPEN, GATE_GIVEN_UP };

struct ctrace_gate {
  _Atomic uint32_t state;
  /// errno of execve, once that failed.
  _Atomic int failure;
};

struct ctrace_gate *ctrace_make_gate(void) {
  void *memory = mmap(NULL, sizeof(struct ctrace_gate), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

void ctrace_remove_gate(struct ctrace_gate *gate) { munmap(gate, sizeof *gate); }

/// Waits in shared memory: a pipe would be I/O, which is what is recorded.
static void wait_at_gate(struct ctrace_gate *gate, pid_t recorder) {
  struct timespec pause = {0, 100000000};
  while (atomic_load(&gate->state) == GATE_SHUT && getppid() == recorder)
    syscall(SYS_futex, &gate->state, FUTEX_WAIT, GATE_SHUT, &pause, NULL, 0);
}

pid_t ctrace_start_at_gate(
    struct ctrace_gate *gate, const char *path, char *const *arguments, char *const *environment, const sigset_t *mask) {
  pid_t recorder = getpid();
  pid_t child = fork();
  if (child != 0) return child;
  // Nothing but system calls from here on: the recorder has more threads.
  wait_at_gate(gate, recorder);
  if (atomic_load(&gate->state) != GATE_OPEN) _exit(127);
  sigprocmask(SIG_SETMASK, mask, NULL);
  execve(path, arguments, environment);
  atomic_store(&gate->failure, errno);
  _exit(127);
}

static void set_gate(struct ctrace_gate *gate, uint32_t state) {
  atomic_store(&gate->state, state);
  syscall(SYS_futex, &gate->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void ctrace_open_gate(struct ctrace_gate *gate) { set_gate(gate, GATE_OPEN); }
void ctrace_give_up_gate(struct ctrace_gate *gate) { set_gate(gate, GATE_GIVEN_UP); }
int ctrace_gate_failure(struct ctrace_gate *gate) { return atomic_load(&gate->failure); }
