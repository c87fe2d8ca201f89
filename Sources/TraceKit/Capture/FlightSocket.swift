import CTrace
import Glibc

/// Where `trace-record trigger` finds a recorder that keeps its events in memory: a local socket with an abstract name, which
/// ends with its process. The same user and root may use it.
final class FlightSocket: @unchecked Sendable {
  /// Followed by the recorder's process number.
  static let prefix = "trace-record.last."
  private let descriptor: Int32
  private let output: String
  private let trigger: FlightTrigger
  private let stopping: UnsafeMutablePointer<UInt32>
  private var thread: WorkerThread?

  /// Nil where there can be none: SIGUSR1 still works.
  init?(output: String, trigger: FlightTrigger) {
    let descriptor = ctrace_listen_abstract("\(Self.prefix)\(getpid())")
    guard descriptor >= 0 else { return nil }
    self.descriptor = descriptor
    self.trigger = trigger
    self.output = Self.absolute(output)
    stopping = .allocate(capacity: 1)
    stopping.initialize(to: 0)
    do throws(TraceError) { thread = try WorkerThread { self.run() } } catch { return nil }
  }

  deinit {
    Glibc.close(descriptor)
    stopping.deallocate()
  }

  func close() {
    ctrace_store_release32(stopping, 1)
    thread?.join()
    thread = nil
  }

  static func absolute(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    guard let folder = getcwd(nil, 0) else { return path }
    defer { free(folder) }
    return String(cString: folder) + "/" + path
  }

  private func run() {
    while ctrace_load_acquire32(stopping) == 0 {
      var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard Glibc.poll(&poll, 1, 100) > 0 else { continue }
      let connection = ctrace_accept(descriptor, 2)
      guard connection >= 0 else { continue }
      serve(connection)
      Glibc.close(connection)
    }
  }

  /// `describe` is answered by the output's path, `trigger` by `+` or `-` and a sentence when the trace is written.
  private func serve(_ connection: Int32) {
    let user = ctrace_peer_user(connection)
    guard user == 0 || user == Int64(geteuid()) else { return send("-not your recorder", to: connection) }
    switch Self.receive(connection, limitBytes: 64) {
    case "describe": send(output, to: connection)
    case "trigger":
      let answer = trigger.answer(to: "trace-record trigger", timeoutSeconds: 300)
      send(answer.map { ($0.succeeded ? "+" : "-") + $0.text } ?? "-the recorder did not answer in time", to: connection)
    default: send("-not understood", to: connection)
    }
  }

  private func send(_ text: String, to connection: Int32) {
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { ctrace_send(connection, $0.baseAddress!, $0.count) }
    shutdown(connection, Int32(SHUT_WR))
  }

  /// What the other side sends until it ends.
  static func receive(_ connection: Int32, limitBytes: Int) -> String {
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 4096)
    while bytes.count < limitBytes {
      let count = recv(connection, &piece, min(piece.count, limitBytes - bytes.count), 0)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { break }
      bytes += piece[0..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
