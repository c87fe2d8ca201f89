import CTrace
import Glibc

/// The recorded program: started, given the signals that are meant for it, and waited for.
struct ChildProcess {
  let processID: pid_t
  /// The signals that the recorder takes by waiting for them; blocked in all of its threads.
  private let waited: sigset_t
  private let formerMask: sigset_t

  /// Signals that are passed on. SIGINT and SIGQUIT reach the program from the terminal by themselves.
  private static let forwarded = [SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]

  /// Blocks the signals that `wait` takes; call before other threads are started, so that they block them too.
  /// - Parameter kept: a signal that the recorder takes for itself: it is neither blocked nor passed on.
  static func blockSignals(except kept: Int32? = nil) -> (waited: sigset_t, former: sigset_t) {
    var waited = sigset_t()
    sigemptyset(&waited)
    for signal in forwarded + [SIGINT, SIGQUIT, SIGCHLD] where signal != kept { sigaddset(&waited, signal) }
    var former = sigset_t()
    pthread_sigmask(SIG_BLOCK, &waited, &former)
    return (waited, former)
  }

  /// A program that was started elsewhere.
  init(processID: pid_t, signals: (waited: sigset_t, former: sigset_t)) {
    self.processID = processID
    waited = signals.waited
    formerMask = signals.former
  }

  /// Starts `path` with its own signal mask and the given environment.
  /// - Throws: a refusal with exit status 126, or 127 when the file is gone.
  init(
    path: String, arguments: [String], environment: [String], signals: (waited: sigset_t, former: sigset_t)
  ) throws(ProgramRefusal) {
    waited = signals.waited
    formerMask = signals.former
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var mask = signals.former
    posix_spawnattr_setsigmask(&attributes, &mask)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    let argumentPointers = arguments.map { strdup($0) } + [nil]
    let environmentPointers = environment.map { strdup($0) } + [nil]
    defer { (argumentPointers + environmentPointers).forEach { free($0) } }
    var process: pid_t = 0
    let code = posix_spawn(&process, path, nil, &attributes, argumentPointers, environmentPointers)
    guard code == 0 else {
      throw ProgramCheck.refusal(path, errno: code)
    }
    processID = process
  }

  /// Waits until the program has ended, passing signals on; it stays a zombie, so that /proc still tells of it.
  func waitForEnd() {
    while !hasEnded {
      var set = waited
      var information = siginfo_t()
      // A child's end is noticed at once by its signal, and within the timeout should that be lost.
      var timeout = timespec(tv_sec: 0, tv_nsec: 100_000_000)
      let signal = sigtimedwait(&set, &information, &timeout)
      guard signal > 0, signal != SIGCHLD else { continue }
      // From the terminal both got it; from kill(1) only the recorder did.
      let fromTerminal = information.si_code > 0
      if Self.forwarded.contains(signal) || !fromTerminal { kill(processID, signal) }
    }
  }

  private var hasEnded: Bool {
    var information = siginfo_t()
    let code = waitid(P_PID, id_t(processID), &information, WEXITED | WNOHANG | WNOWAIT)
    return code != 0 ? errno == ECHILD : information.si_signo == SIGCHLD
  }

  /// rchar and wchar of the ended program and of the children that it waited for; nil where the kernel does not count.
  var transferredBytes: (read: UInt64, written: UInt64)? { Self.transferredBytes(processID) }

  static func transferredBytes(_ process: pid_t) -> (read: UInt64, written: UInt64)? {
    guard let text = SmallFile.text("/proc/\(process)/io") else { return nil }
    var values: [Substring: UInt64] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":")
      if parts.count == 2 { values[parts[0]] = UInt64(parts[1].drop { $0 == " " }) }
    }
    guard let read = values["rchar"], let written = values["wchar"] else { return nil }
    return (read, written)
  }

  /// The wait(2) status; the program is gone after this.
  func reap() -> Int32 {
    var status: Int32 = 0
    while waitpid(processID, &status, 0) < 0, errno == EINTR {}
    return status
  }

  /// Waits for all that the program left behind (the recorder adopts orphans, PR_SET_CHILD_SUBREAPER); adds what they moved.
  func waitForDescendants(adding bytes: inout (read: UInt64, written: UInt64)?) {
    while true {
      var information = siginfo_t()
      guard waitid(P_ALL, 0, &information, WEXITED | WNOWAIT) == 0 else {
        if errno == EINTR { continue }
        return
      }
      let process = ctrace_signal_process(&information)
      if let more = Self.transferredBytes(process), let sum = bytes { bytes = (sum.read + more.read, sum.written + more.written) }
      var status: Int32 = 0
      waitpid(process, &status, 0)
    }
  }
}
