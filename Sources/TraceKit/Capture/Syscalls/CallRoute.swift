/// How the system calls of running processes are seen.
public enum CallRoute: String, CaseIterable, Sendable {
  /// `bpf` where this kernel and this user can, else `syscalls`.
  case auto
  /// Programs in the kernel (BPF), which cost a call about half of what the kernel's own events do.
  case bpf
  /// The kernel's events of system calls (tracefs).
  case syscalls
}
