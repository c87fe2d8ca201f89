/// What a request asked for. The raw values are those of the trace format and never change.
public enum TraceOperation: UInt8, CaseIterable, BitwiseCopyable, Sendable {
  /// An operation that this version does not know: a newer writer's. It is shown, and not replayed.
  case other = 0
  // Data.
  case read = 1
  case write = 2
  // Durability.
  case fsync = 3
  case fdatasync = 4
  case syncFileRange = 5
  case msync = 6
  // Size and space.
  case truncate = 7
  case allocate = 8
  case discard = 9
  case writeZeroes = 10
  /// A flush of the device's own cache.
  case flush = 11
  // Descriptors and names.
  case open = 16
  case close = 17
  case duplicate = 18
  case seek = 19
  case rename = 20
  case unlink = 21
  case link = 22
  // File mappings.
  case map = 24
  case unmap = 25
  // Sockets.
  case send = 32
  case receive = 33
  case connect = 34
  case accept = 35
  // Between two files.
  case copyRange = 40
  case sendfile = 41
  case splice = 42
  /// A time when requests went unrecorded. Start and latency are its interval, `sizeBytes` the number of events lost, or
  /// not known, `result` the raw value of a `GapCause`; process and thread name the stream, where it was one.
  case gap = 128

  /// The name in reports, dumps and JSON: lower case, words joined by `_`, as the system call where there is one.
  public var name: String {
    switch self {
    case .other: "other"
    case .read: "read"
    case .write: "write"
    case .fsync: "fsync"
    case .fdatasync: "fdatasync"
    case .syncFileRange: "sync_file_range"
    case .msync: "msync"
    case .truncate: "truncate"
    case .allocate: "fallocate"
    case .discard: "discard"
    case .writeZeroes: "write_zeroes"
    case .flush: "flush"
    case .open: "open"
    case .close: "close"
    case .duplicate: "dup"
    case .seek: "lseek"
    case .rename: "rename"
    case .unlink: "unlink"
    case .link: "link"
    case .map: "mmap"
    case .unmap: "munmap"
    case .send: "send"
    case .receive: "recv"
    case .connect: "connect"
    case .accept: "accept"
    case .copyRange: "copy_file_range"
    case .sendfile: "sendfile"
    case .splice: "splice"
    case .gap: "gap"
    }
  }

  /// The operation of a `name`, or nil.
  public init?(name: some StringProtocol) {
    guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = found
  }
}

/// Why requests are missing from a trace; `result` of a gap event. The raw values are those of the trace format.
public enum GapCause: Int64, CaseIterable, Sendable {
  case unknown = 0
  /// The producer's ring was full and the request was dropped.
  case ringFull = 1
  /// The recorder's memory for unwritten events was exhausted.
  case collectorFull = 2
  /// A process was killed between finishing a call and publishing its record.
  case killedInCall = 3
  /// A thread had no ring (no memory or no access to the run directory) and went unrecorded.
  case noRing = 4
  /// A block of the trace was damaged; written by recovery.
  case damagedBlock = 5
  /// The source format says that it lost events here.
  case source = 6
  /// Recording stopped before the recorded program did (a size limit).
  case stopped = 7

  /// The name in ledgers and JSON.
  public var name: String {
    switch self {
    case .unknown: "unknown"
    case .ringFull: "ring_full"
    case .collectorFull: "recorder_full"
    case .killedInCall: "killed_in_call"
    case .noRing: "no_ring"
    case .damagedBlock: "damaged_block"
    case .source: "source"
    case .stopped: "stopped"
    }
  }

  /// Words for reports.
  public var explanation: String {
    switch self {
    case .unknown: "unknown"
    case .ringFull: "ring full"
    case .collectorFull: "recorder out of memory"
    case .killedInCall: "killed inside a call"
    case .noRing: "thread without a ring"
    case .damagedBlock: "damaged block"
    case .source: "lost by the source"
    case .stopped: "recording stopped"
    }
  }
}
