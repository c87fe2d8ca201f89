import CTrace

/// What the traced processes of a session met that the preload route can't see.
struct PreloadBlindSpots: Sendable {
  /// One kind of I/O, or one program, that went unseen.
  struct Spot: Hashable, Sendable {
    /// For people, in the plural: `io_uring requests submitted by direct system calls`.
    var name: String
    var count: UInt64
    /// What would see it, for people.
    var remedy: String?
  }
  private(set) var spots: [Spot] = []
  /// The programs that were started and went unseen, each with the reason, for people.
  private(set) var programs: [String] = []

  /// What sees programs and calls that no library can be loaded in front of.
  static let otherRoute = "'trace-record run --route syscalls' (or bpf) or 'trace-record attach' sees them, as root"

  init(_ session: PreloadSession, _ result: RecordingWriter.Outcome) {
    let shared = session.shared.pointee
    add("file mappings", result.mappings, "reads and writes of mapped memory are no calls")
    let direct = "submitted by system calls of the program's own or taken by a kernel thread; \(Self.otherRoute)"
    add("io_uring requests that no call showed", shared.uring_unseen_requests, direct)
    add(
      "io_uring rings that a kernel thread polls (SQPOLL)", shared.uring_polled_rings,
      "requests queued without a call show late or not at all")
    add("io_uring rings in memory of the program's own", shared.uring_hidden_rings, Self.otherRoute)
    // Requests that went unseen have completions that no request is known of.
    let unmatched = result.unmatchedCompletions - min(result.unmatchedCompletions, shared.uring_unseen_requests)
    add("completions that were gone when they were looked for", shared.unseen_completions &+ unmatched, nil)
    add("asynchronous requests whose completion was not seen", result.unfinishedRequests, nil)
    for escape in Self.escapes(session) {
      add("program starts, \(escape.reason)", escape.starts, Self.otherRoute)
      let times = escape.starts == 1 ? "" : ", started \(escape.starts) times"
      programs.append("\(PrintableText.escaped(escape.path)) (\(escape.reason)\(times))")
    }
    add("starts of further programs that ignore preloading", shared.escapes_beyond, Self.otherRoute)
  }

  private mutating func add(_ name: String, _ count: UInt64, _ remedy: String?) {
    guard count > 0 else { return }
    if let known = spots.firstIndex(where: { $0.name == name }) {
      spots[known].count &+= count
    } else {
      spots.append(Spot(name: name, count: count, remedy: remedy))
    }
  }

  // MARK: Programs

  private static func escapes(_ session: PreloadSession) -> [(path: [UInt8], reason: String, starts: UInt64)] {
    withUnsafeBytes(of: session.shared.pointee.escapes) { bytes in
      let stride = MemoryLayout<trace_escape>.stride
      return (0..<bytes.count / stride).compactMap { index in
        let escape = bytes.loadUnaligned(fromByteOffset: index * stride, as: trace_escape.self)
        guard escape.state == 2 else { return nil }
        let path = withUnsafeBytes(of: escape.path) { Array($0.prefix { $0 != 0 }) }
        return (path, reason(escape.reason), escape.starts)
      }
    }
  }

  private static func reason(_ code: UInt32) -> String {
    switch code {
    case TRACE_ESCAPE_STATIC.rawValue: "statically linked"
    case TRACE_ESCAPE_PRIVILEGES.rawValue: "gaining rights by setuid, setgid or file capabilities"
    case TRACE_ESCAPE_ARCHITECTURE.rawValue: "for another processor, or of 32 bits"
    case TRACE_ESCAPE_LIBC.rawValue: "linked with musl"
    case TRACE_ESCAPE_ROOT.rawValue: "in another root directory, which the recorder's library is not in"
    default: "ignoring preloading"
    }
  }
}
