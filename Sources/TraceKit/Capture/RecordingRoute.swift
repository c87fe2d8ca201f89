/// A way to record a program that the recorder starts.
public enum RecordingRoute: String, CaseIterable, Sendable {
  /// What the program and the privileges allow, the preload route before others.
  case auto
  /// A library that the loader puts in front of libc.
  case preload
  /// Programs in the kernel (BPF).
  case bpf
  /// The kernel's events of system calls (tracefs).
  case syscalls

  /// What serves, and why it does.
  struct Choice: Hashable, Sendable {
    /// The route of the kernel; nil for the preload route.
    var callRoute: CallRoute?
    var reason: String
  }

  /// Chooses for the program at `path`.
  /// - Throws: when the program can't be started, or not be recorded by the route that is asked for or any.
  func choose(program path: String) throws(ProgramRefusal) -> Choice {
    var obstacle: ProgramRefusal?
    do throws(ProgramRefusal) { try ProgramCheck.check(path) } catch {
      guard error.isOfPreloading else { throw error }
      obstacle = error
    }
    switch (self, obstacle) {
    case (.bpf, _): return Choice(callRoute: .bpf, reason: "asked for")
    case (.syscalls, _): return Choice(callRoute: .syscalls, reason: "asked for")
    case (.preload, nil): return Choice(reason: "asked for")
    case (.auto, nil): return Choice(reason: "a library can be loaded into the program; no privileges needed")
    case (.preload, let obstacle?): throw obstacle
    case (.auto, let obstacle?):
      guard (try? Tracefs(purpose: "--route syscalls")) != nil else { throw obstacle }
      return Choice(callRoute: .auto, reason: obstacle.message)
    }
  }
}
