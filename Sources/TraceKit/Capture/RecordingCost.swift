import CTrace
import Glibc

/// What recording one call costs on this machine: the same small loop, with and without the library.
public enum RecordingCost {
  /// Rounds and calls of a loop that nothing limits.
  public static let mostRounds = 48
  static let callsPerRound = 512

  /// The loop: 4 KiB preads of a memory file for about 20 ms; the fastest of several rounds, in nanoseconds per call.
  public static func timedLoop(rounds: Int = mostRounds) -> Double? {
    let descriptor = ctrace_memory_file("calibration")
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
    defer { buffer.deallocate() }
    memset(buffer, 1, 4096)
    guard pwrite(descriptor, buffer, 4096, 0) == 4096 else { return nil }
    let calls = callsPerRound
    var best = Int64.max
    // The first rounds touch the ring's pages for the first time; the fastest comes after them.
    for _ in 0..<rounds {
      let start = ctrace_monotonic_ns()
      for _ in 0..<calls { _ = pread(descriptor, buffer, 4096, 0) }
      best = min(best, ctrace_monotonic_ns() - start)
    }
    return Double(best) / Double(calls)
  }

  /// Runs the calibration command with and without the library; nil when it can't be run.
  static func measure(_ options: RecordingOptions) -> Double? {
    guard let command = options.calibration,
      let session = try? PreloadSession(ringBytes: 256 << 10, onFull: .drop, parent: options.runFolder)
    else { return nil }
    defer { session.remove() }
    // The rings are drained as ever, and what comes out is thrown away.
    let queue = CaptureQueue()
    let collector = PreloadCollector(session: session, queue: queue, epochNanoseconds: 0)
    guard (try? collector.start()) != nil, let sink = try? WorkerThread({ while !queue.take().isLast {} }) else { return nil }
    defer {
      _ = collector.finish()
      sink.join()
    }
    let recorded = ["LD_PRELOAD=\(options.library)", "\(PreloadSession.variable)=\(session.folder)"]
    var plain = Double.infinity
    var loaded = Double.infinity
    // In turns, so that a change of the machine's speed meets both.
    for _ in 0..<2 {
      guard let without = output(of: command, environment: []), let with = output(of: command, environment: recorded) else { return nil }
      plain = min(plain, without)
      loaded = min(loaded, with)
    }
    return max(0, loaded - plain)
  }

  private static func output(of command: [String], environment: [String]) -> Double? {
    var ends: [Int32] = [-1, -1]
    guard ctrace_pipe(&ends) == 0 else { return nil }
    defer { close(ends[0]) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    let argumentPointers = command.map { strdup($0) } + [nil]
    let environmentPointers = environment.map { strdup($0) } + [nil]
    defer { (argumentPointers + environmentPointers).forEach { free($0) } }
    var process: pid_t = 0
    let code = posix_spawn(&process, command[0], &actions, nil, argumentPointers, environmentPointers)
    close(ends[1])
    guard code == 0 else { return nil }
    var text = [UInt8](repeating: 0, count: 64)
    let count = read(ends[0], &text, text.count)
    var status: Int32 = 0
    waitpid(process, &status, 0)
    guard status == 0, count > 0 else { return nil }
    return Double(String(decoding: text[0..<count], as: UTF8.self).prefix { $0 != "\n" })
  }
}
