/// Turns events into requests, in order, and counts what is not replayed. The survey and the replay use the same one.
struct RequestBuilder {
  private let filter: EventFilter
  private let replayable: [Bool]
  private let files: [TraceFile]
  /// The recorded threads of the requests.
  let streams = StreamTable()
  private var lastThread = StreamTable.Thread(processID: Int32.min, threadID: Int32.min)
  private var lastStream: UInt32 = 0
  private var firstStart: Int64?
  private var lastStart: Int64 = 0
  private var loopOffset: Int64 = 0
  private var numberOffset: UInt64 = 0
  /// Requests made so far.
  private(set) var issued: UInt64 = 0
  private(set) var recordedLatencySum: Int64 = 0
  private(set) var recordedLatencies: UInt64 = 0
  /// Requests of the trace that are not replayed, by reason.
  private(set) var notReplayed: [String: UInt64] = [:]

  /// Operations that the engine does not do.
  private let unsupported: Set<IOOperation.Kind>
  private let engineName: String

  init(filter: EventFilter, files: [TraceFile], engine: EngineRegistry.Entry) {
    self.filter = filter
    unsupported = Set(IOOperation.Kind.allCases).subtracting(engine.capabilities.operations)
    engineName = engine.name
    self.files = files
    replayable = files.map { [.unknown, .regular, .blockDevice].contains($0.kind) }
  }

  /// Whether `batch` can take the request of an event, whatever it is.
  @inline(__always)
  func fits(_ batch: RequestBatch, number: UInt64) -> Bool { batch.takes(number: number &+ numberOffset, ordinal: issued) }

  /// Adds the request of an event to `batch`, which must have room; false when the event is filtered out or not replayed. In
  /// place: a request is too long to be handed about.
  @inline(__always)
  mutating func build(_ pointer: UnsafePointer<TraceEvent>, number: UInt64, into batch: RequestBatch) -> Bool {
    let event = pointer.pointee
    guard filter.wants(event) else { return false }
    guard let kind = IOOperation.Kind(event.operation) else {
      skip(event.operation.name)
      return false
    }
    if !unsupported.isEmpty, unsupported.contains(kind) {
      skip("\(kind.name), which the engine \(engineName) does not do")
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
    if event.flags.contains(.buffered) {
      skip("\(kind.name) in a user-space buffer")
      return false
    }
    guard let (offset, length) = range(event, kind) else { return false }
    let start = event.startNanoseconds
    if firstStart == nil { firstStart = start }
    let moved = (kind == .read || kind == .write) && event.result != TraceEvent.unknownResult ? event.result : -1
    guard
      var request = ReplayRequest(
        startNanoseconds: start &- firstStart! &+ loopOffset, offsetBytes: offset, lengthBytes: length, movedBytes: moved,
        latencyNanoseconds: event.latencyNanoseconds, file: event.file, flags: event.flags, kind: kind,
        callFlags: Self.callFlags(event.flags, kind))
    else {
      skip("\(kind.name) with an odd length above 4 GiB")
      return false
    }
    request.stream = stream(event)
    lastStart = start
    if event.latencyNanoseconds >= 0 {
      recordedLatencySum &+= event.latencyNanoseconds
      recordedLatencies &+= 1
    }
    batch.requests[batch.count] = request
    batch.add(number: number &+ numberOffset, ordinal: issued)
    issued &+= 1
    return true
  }

  @inline(__always)
  private mutating func stream(_ event: TraceEvent) -> UInt32 {
    let thread = StreamTable.Thread(processID: event.processID, threadID: event.threadID)
    if thread == lastThread { return lastStream }
    lastThread = thread
    lastStream = streams.row(thread)
    return lastStream
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

  /// O_SYNC and O_DSYNC of the recorded descriptor become RWF_SYNC and RWF_DSYNC of the one call.
  private static func callFlags(_ flags: TraceEventFlags, _ kind: IOOperation.Kind) -> UInt8 {
    guard kind == .write else { return kind == .syncFileRange ? 7 : 0 }
    if flags.contains(.sync) || flags.contains(.requestSync) { return 4 }
    if flags.contains(.dataSync) || flags.contains(.requestDataSync) { return 2 }
    return 0
  }

  @inline(never)
  private mutating func skip(_ reason: String) { notReplayed[reason, default: 0] += 1 }
}
