import CTrace
import Glibc

/// A process of its own that removes this recorder's tracing instances when the recorder is gone, however it went.
public final class TracingGuardian {
  private let process: pid_t
  private let input: Int32

  /// Starts `command`, which must call `wait`; nil when it can't be started: then the next recorder cleans up.
  init?(_ command: [String]) {
    var ends: [Int32] = [-1, -1]
    guard ctrace_pipe(&ends) == 0 else { return nil }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A signal of the terminal is for the recorder.
    posix_spawnattr_setflags(&attributes, (CTRACE_SPAWN_SETSID))
    let argumentPointers = (command + ["\(getpid())"]).map { strdup($0) } + [nil]
    defer { argumentPointers.forEach { free($0) } }
    var started: pid_t = 0
    let code = posix_spawn(&started, command[0], &actions, &attributes, argumentPointers, environ)
    close(ends[0])
    guard code == 0 else {
      close(ends[1])
      return nil
    }
    process = started
    input = ends[1]
  }

  /// Its process.
  var processID: Int32 { process }

  /// Tells it that nothing is left to do, and waits for it.
  func dismiss() {
    close(input)
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
  }

  /// What the guardian does: waits for the end of `owner`'s pipe, then removes what `owner` left.
  public static func wait(for owner: Int32) {
    var byte: UInt8 = 0
    while true {
      let count = read(0, &byte, 1)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { break }
    }
    guard let tracefs = try? Tracefs(purpose: "trace-record") else { return }
    let folder = "\(tracefs.root)/instances"
    let mine = "\(TraceInstance.prefix)\(owner)"
    // The kernel closes the files of a killed process one after another; until then the instance is in use.
    for _ in 0..<500 {
      let left = SmallFile.names(in: folder).filter { $0 == mine || $0.hasPrefix("\(mine)-") }
      if left.allSatisfy({ rmdir("\(folder)/\($0)") == 0 }) { break }
      usleep(10_000)
    }
    TraceInstanceLock.removeAbandoned(tracefs)
  }
}
