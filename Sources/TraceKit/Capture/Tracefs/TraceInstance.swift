import CTrace
import Glibc

/// A tracing instance of this recorder's own: `instances/iotrace-PID`, with buffers and settings that nobody else sees.
///
/// Its owner holds a lock as long as it lives. When it dies the kernel closes `free_buffer`, which stops tracing and gives the
/// memory back; a guardian process or the next recorder removes what is left.
final class TraceInstance {
  let path: String
  private let tracefs: Tracefs
  private var freeBuffer: Int32 = -1
  private var isRemoved = false
  static let prefix = "iotrace-"

  /// - Parameter suffix: tells several instances of one recorder apart.
  /// - Throws: when it can't be made.
  init(_ tracefs: Tracefs, suffix: String = "") throws(TraceError) {
    self.tracefs = tracefs
    path = "\(tracefs.root)/instances/\(Self.prefix)\(getpid())\(suffix)"
    // One of this name is that of a dead process with our number.
    if mkdir(path, 0o700) != 0, errno != EEXIST || rmdir(path) != 0 || mkdir(path, 0o700) != 0 {
      throw TraceError(path: path, "make a tracing instance", errno: errno, hint: "it needs root; 'trace-record run' works without")
    }
    do throws(TraceError) {
      try set("tracing_on", "0")
      try set("trace_clock", "mono")
      // A full buffer drops what is new. Then the stream up to there is whole, losses lie between two pages, and a recorder that
      // is stopped costs the traced programs least.
      try set("options/overwrite", "0")
      set(ifPresent: "options/disable_on_free", "1")
      set(ifPresent: "options/record-cmd", "0")
      freeBuffer = ctrace_open("\(path)/free_buffer", O_WRONLY | O_CLOEXEC, 0)
    } catch {
      remove()
      throw error
    }
  }

  deinit { remove() }

  // MARK: Settings

  func set(_ file: String, _ value: String, append: Bool = false) throws(TraceError) {
    let target = "\(path)/\(file)"
    let descriptor = ctrace_open(target, O_WRONLY | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0)
    guard descriptor >= 0 else { throw TraceError(path: target, "open it", errno: errno) }
    defer { close(descriptor) }
    let bytes = Array(value.utf8)
    guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
      throw TraceError(path: target, "write '\(value.prefix(64))' to it", errno: errno)
    }
  }

  private func set(ifPresent file: String, _ value: String) { try? set(file, value) }

  func enable(_ system: String, _ event: String) throws(TraceError) { try set("events/\(system)/\(event)/enable", "1") }

  /// Memory of each CPU's buffer. - Returns: what the kernel made of it, in bytes.
  @discardableResult
  func setBuffer(bytesPerCPU: Int) throws(TraceError) -> Int {
    try set("buffer_size_kb", "\(max(64, bytesPerCPU >> 10))")
    return (SmallFile.line("\(path)/buffer_size_kb").flatMap { Int($0) } ?? 0) << 10
  }

  /// Adds threads to those whose events are kept; those that have ended meanwhile are no error.
  func addThreads(_ threads: some Sequence<Int32>) throws(TraceError) { try write(threads, to: "set_event_pid") }

  /// Adds threads to those whose events are never kept.
  func excludeThreads(_ threads: some Sequence<Int32>) throws(TraceError) { try write(threads, to: "set_event_notrace_pid") }

  private func write(_ threads: some Sequence<Int32>, to file: String) throws(TraceError) {
    var text = ""
    // The kernel takes less than a page at once.
    for thread in threads {
      text += "\(thread) "
      if text.utf8.count > 2000 {
        try set(file, text, append: true)
        text = ""
      }
    }
    if !text.isEmpty { try set(file, text, append: true) }
  }

  /// Throws away what the buffers hold.
  func clear() { set(ifPresent: "trace", "\n") }

  /// The numbers of the CPUs that have a buffer.
  var processors: [Int] {
    SmallFile.names(in: "\(path)/per_cpu").compactMap { $0.hasPrefix("cpu") ? Int($0.dropFirst(3)) : nil }.sorted()
  }

  /// Ends tracing and removes the instance with everything that it had enabled.
  func remove() {
    guard !isRemoved else { return }
    isRemoved = true
    set(ifPresent: "tracing_on", "0")
    if freeBuffer >= 0 { close(freeBuffer) }
    freeBuffer = -1
    rmdir(path)
  }
}
