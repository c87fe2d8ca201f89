/// Turns events into requests, in order, and counts what is not replayed. The survey and the replay use the same one.
struct RequestBuilder {
  private let speed: ReplaySpeed
  private let filter: EventFilter
  private let replayable: [Bool]
  private let files: [TraceFile]
  private var firstStart: Int64?
  private var lastStart: Int64 = 0
  private var loopOffset: Int64 = 0
  private var numberOffset: UInt64 = 0
  private var issued: UInt64 = 0
  /// Requests of the trace that are not replayed, by reason.
  private(set) var notReplayed: [String: UInt64] = [:]

  init(speed: ReplaySpeed, filter: EventFilter, files: [TraceFile]) {
    self.speed = speed
    self.filter = filter
    self.files = files
    replayable = files.map { [.unknown, .regular, .blockDevice].contains($0.kind) }
  }

  /// Writes the request for an event to `request`; false when the event is filtered out or not replayed. In place: a request is
  /// too long to be handed about.
  @inline(__always)
  mutating func build(_ pointer: UnsafePointer<TraceEvent>, number: UInt64, into request: UnsafeMutablePointer<ReplayRequest>) -> Bool {
    let event = pointer.pointee
    guard filter.wants(event) else { return false }
    guard let kind = IOOperation.Kind(event.operation) else {
      skip(event.operation.name)
      return false
    }
    let file = Int(event.file)
    guard file < replayable.count else {
      skip("\(kind.name) of an unknown file")
      return false
    }
    guard replayable[file] else {
      skip("\(kind.name) on a \(files[file].kind.name)")
      return false
    }
    if event.result < 0, event.result != TraceEvent.unknownResult {
      skip("\(kind.name) that failed when recorded")
      return false
    }
    guard let (offset, length) = range(event, kind) else { return false }
    let start = event.startNanoseconds
    if firstStart == nil { firstStart = start }
    lastStart = start
    let due = dueTime(start &- firstStart!)
    issued &+= 1
    var expected: Int64 = -1
    if kind == .read || kind == .write { expected = event.result == TraceEvent.unknownResult ? -1 : event.result }
    request.initialize(
      to: ReplayRequest(
        dueNanoseconds: due, offsetBytes: offset, lengthBytes: length, expectedBytes: expected, number: number &+ numberOffset,
        ordinal: issued &- 1, recordedLatencyNanoseconds: event.latencyNanoseconds, file: event.file, fileDescriptor: -1,
        processID: event.processID,
        threadID: event.threadID, callFlags: Self.callFlags(event.flags, kind), flags: event.flags, kind: kind, isBlockDevice: false))
    return true
  }

  /// Prepares for another pass over the trace, which holds `events` events.
  mutating func nextLoop(events: UInt64) {
    guard let first = firstStart else { return }
    let span = lastStart &- first
    // One mean gap between the last request of a pass and the first of the next.
    loopOffset &+= span &+ (issued > 1 ? span / Int64(issued - 1) : 0)
    numberOffset &+= events
  }

  private mutating func range(_ event: TraceEvent, _ kind: IOOperation.Kind) -> (Int64, Int)? {
    let limit = UInt64(Int64.max)
    switch kind {
    case .fsync, .fdatasync: return (0, 0)
    case .truncate:
      guard event.offsetBytes <= limit else { break }
      return (Int64(event.offsetBytes), 0)
    case .read, .write, .syncFileRange, .allocate, .discard:
      guard event.offsetBytes <= limit, event.sizeBytes <= limit - event.offsetBytes else { break }
      return (Int64(event.offsetBytes), Int(event.sizeBytes))
    }
    let known = event.offsetBytes != TraceEvent.unknownOffset && (event.sizeBytes != TraceEvent.unknownSize || kind == .truncate)
    skip(known ? "\(kind.name) with an offset or size out of range" : "\(kind.name) without offset or size")
    return nil
  }

  @inline(__always)
  private func dueTime(_ sinceFirst: Int64) -> Int64 {
    switch speed {
    case .maximum: 0
    case .factor(let factor): factor == 1 ? sinceFirst &+ loopOffset : Int64(Double(sinceFirst &+ loopOffset) / factor)
    case .rate(let rate): Int64(Double(issued) * 1e9 / rate)
    }
  }

  /// O_SYNC and O_DSYNC of the recorded descriptor become RWF_SYNC and RWF_DSYNC of the one call.
  private static func callFlags(_ flags: TraceEventFlags, _ kind: IOOperation.Kind) -> Int32 {
    guard kind == .write else { return kind == .syncFileRange ? 7 : 0 }
    if flags.contains(.sync) || flags.contains(.requestSync) { return 4 }
    if flags.contains(.dataSync) || flags.contains(.requestDataSync) { return 2 }
    return 0
  }

  @inline(never)
  private mutating func skip(_ reason: String) { notReplayed[reason, default: 0] += 1 }
}
