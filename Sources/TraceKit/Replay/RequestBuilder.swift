/// Turns events into requests, in order, and counts what is not replayed. The survey and the replay use the same one.
struct RequestBuilder {
  private let filter: EventFilter
  private let filters: Bool
  private let replayable: [Bool]
  /// By the raw value of a trace's operation: the kind that replays it, or `notReplayable`.
  private let kinds: [UInt8]
  private static let notReplayable = UInt8.max
  private let files: [TraceFile]
  /// The recorded threads of the requests.
  let streams = StreamTable()
  private var lastThread = StreamTable.Thread(processID: Int32.min, threadID: Int32.min)
  private var lastStream: UInt32 = 0
  private var firstStart: Int64 = 0
  private var hasStarted = false
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

  /// Flags that requests are made with whatever was recorded, and those that they are not.
  private let addedFlags: TraceEventFlags
  private let removedFlags: TraceEventFlags

  init(filter: EventFilter, files: [TraceFile], engine: EngineRegistry.Entry, options: ReplayOptions = ReplayOptions()) {
    self.filter = filter
    var added: TraceEventFlags = []
    if options.cacheUse == .direct { added.insert(.direct) }
    if options.synchronousWrites { added.insert(.requestSync) }
    addedFlags = added
    removedFlags = options.cacheUse == .buffered ? [.direct] : []
    unsupported = Set(IOOperation.Kind.allCases).subtracting(engine.capabilities.operations)
    engineName = engine.name
    self.files = files
    filters = !filter.isEmpty
    kinds = (UInt8.min...UInt8.max).map { raw in
      let kind = TraceOperation(rawValue: raw).flatMap { IOOperation.Kind($0) }
      guard let kind, engine.capabilities.operations.contains(kind) else { return Self.notReplayable }
      return kind.rawValue
    }
    replayable = files.map { [.unknown, .regular, .blockDevice].contains($0.kind) }
  }

  /// Adds the requests of events to `batch`, as many as it takes; events that are filtered out or not replayed add none. Works on
  /// local copies, since properties of a class are checked at each access.
  /// - Parameters:
  ///   - index: first event that is looked at; the next one afterwards.
  ///   - firstNumber: number of `events[0]` in the trace.
  @inline(__always)
  mutating func fill(
    _ batch: RequestBatch, _ events: UnsafePointer<TraceEvent>, _ index: inout Int, count: Int, firstNumber: UInt64
  ) {
    let requests = batch.requests
    var made = batch.count
    var batchNumber = batch.firstNumber
    var batchOrdinal = batch.firstOrdinal
    while index < count, made < RequestBatch.capacity {
      let number = firstNumber &+ UInt64(index) &+ numberOffset
      if made == 0 {
        batchNumber = number
        batchOrdinal = issued
      } else if !RequestBatch.spans(number &- batchNumber, issued &- batchOrdinal) {
        break
      }
      if build(events + index, requests + made) {
        requests[made].numberOffset = UInt32(truncatingIfNeeded: number &- batchNumber)
        requests[made].ordinalOffset = UInt16(truncatingIfNeeded: issued &- batchOrdinal)
        made += 1
        issued &+= 1
      }
      index += 1
    }
    batch.count = made
    batch.firstNumber = batchNumber
    batch.firstOrdinal = batchOrdinal
  }

  /// Writes the request of an event to `request`; false when the event is filtered out or not replayed.
  @inline(__always)
  private mutating func build(_ event: UnsafePointer<TraceEvent>, _ request: UnsafeMutablePointer<ReplayRequest>) -> Bool {
    if filters, !filter.wants(event.pointee) { return false }
    let code = kinds[Int(event.pointee.operation.rawValue)]
    let file = Int(event.pointee.file)
    let result = event.pointee.result
    guard code < Self.notReplayable, file < replayable.count, replayable[file], result >= 0 || result == TraceEvent.unknownResult
    else {
      skip(event.pointee)
      return false
    }
    let kind = IOOperation.Kind(rawValue: code).unsafelyUnwrapped
    let isTransfer = kind == .read || kind == .write
    var offset = event.pointee.offsetBytes
    var length = event.pointee.sizeBytes
    if isTransfer {
      guard offset <= UInt64(Int64.max), length <= UInt64(Int64.max) &- offset else {
        skipRange(event.pointee, kind)
        return false
      }
    } else {
      guard let (other, size) = range(event.pointee, kind) else { return false }
      (offset, length) = (UInt64(other), UInt64(size))
    }
    let flags = event.pointee.flags.subtracting(removedFlags).union(addedFlags)
    let start = event.pointee.startNanoseconds
    if issued == 0, !hasStarted { begin(start) }
    let moved = isTransfer && result != TraceEvent.unknownResult ? result : -1
    let flags = event.pointee.flags.subtracting(removedFlags).union(addedFlags)
    guard
      var made = ReplayRequest(
        startNanoseconds: start &- firstStart &+ loopOffset, offsetBytes: Int64(bitPattern: offset), lengthBytes: Int(length),
        movedBytes: moved, latencyNanoseconds: event.pointee.latencyNanoseconds, file: event.pointee.file,
        flags: flags, kind: kind, callFlags: Self.callFlags(flags, kind))
    else {
      count("\(kind.name) with an odd length above 4 GiB")
      return false
    }
    made.stream = stream(event.pointee.processID, event.pointee.threadID)
    request.initialize(to: made)
    lastStart = start
    if event.pointee.latencyNanoseconds >= 0 {
      recordedLatencySum &+= event.pointee.latencyNanoseconds
      recordedLatencies &+= 1
    }
    return true
  }

  @inline(never)
  private mutating func begin(_ start: Int64) {
    firstStart = start
    hasStarted = true
  }

  /// Counts why an event is not replayed.
  @inline(never)
  private mutating func skip(_ event: TraceEvent) {
    let file = Int(event.file)
    guard let kind = IOOperation.Kind(event.operation) else { return count(event.operation.name) }
    if unsupported.contains(kind) { return count("\(kind.name), which the engine \(engineName) does not do") }
    if file >= replayable.count { return count("\(kind.name) of an unknown file") }
    if !replayable[file] { return count("\(kind.name) on a \(files[file].kind.name)") }
    count("\(kind.name) that failed when recorded")
  }

  @inline(__always)
  private mutating func stream(_ processID: Int32, _ threadID: Int32) -> UInt32 {
    let thread = StreamTable.Thread(processID: processID, threadID: threadID)
    if thread == lastThread { return lastStream }
    lastThread = thread
    lastStream = streams.row(thread)
    return lastStream
  }

  /// Prepares for another pass over the trace, which holds `events` events.
  mutating func nextLoop(events: UInt64) {
    guard hasStarted else { return }
    let span = lastStart &- firstStart
    // One mean gap between the last request of a pass and the first of the next.
    loopOffset &+= span &+ (issued > 1 ? span / Int64(issued - 1) : 0)
    numberOffset &+= events
  }

  @inline(never)
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
    skipRange(event, kind)
    return nil
  }

  @inline(never)
  private mutating func skipRange(_ event: TraceEvent, _ kind: IOOperation.Kind) {
    let known = event.offsetBytes != TraceEvent.unknownOffset && (event.sizeBytes != TraceEvent.unknownSize || kind == .truncate)
    count(known ? "\(kind.name) with an offset or size out of range" : "\(kind.name) without offset or size")
  }

  /// O_SYNC and O_DSYNC of the recorded descriptor become RWF_SYNC and RWF_DSYNC of the one call.
  private static func callFlags(_ flags: TraceEventFlags, _ kind: IOOperation.Kind) -> UInt8 {
    guard kind == .write else { return kind == .syncFileRange ? 7 : 0 }
    if flags.contains(.sync) || flags.contains(.requestSync) { return 4 }
    if flags.contains(.dataSync) || flags.contains(.requestDataSync) { return 2 }
    return 0
  }

  @inline(never)
  private mutating func count(_ reason: String) { notReplayed[reason, default: 0] += 1 }
}
