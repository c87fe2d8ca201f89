/// What a trace holds, gathered in one pass. Memory depends on the number of files and threads, not on that of events.
public struct TraceSummary: Sendable {
  /// Figures of one kind of operation.
  public struct Operation: Sendable {
    /// The kind.
    public var operation: TraceOperation
    /// Events of this kind.
    public var count: UInt64 = 0
    /// Bytes moved (reads and writes), or that the sizes name (others).
    public var bytes: UInt64 = 0
    /// Calls that failed; those whose result is not known don't count.
    public var errors: UInt64 = 0
    /// Known latencies in nanoseconds.
    public var latency = LatencyHistogram()
  }

  /// Figures of one file.
  public struct FileShare: Sendable {
    /// `TraceFile.id`.
    public var file: UInt32
    /// Reads of the file.
    public var reads: UInt64 = 0
    /// Writes to the file.
    public var writes: UInt64 = 0
    /// Other events of the file.
    public var others: UInt64 = 0
    /// Bytes that reads moved.
    public var bytesRead: UInt64 = 0
    /// Bytes that writes moved.
    public var bytesWritten: UInt64 = 0
    /// Bytes moved either way.
    public var bytes: UInt64 { bytesRead &+ bytesWritten }
  }

  /// A time when requests went unrecorded.
  public struct Gap: Hashable, Sendable {
    /// Nanoseconds since the trace's epoch.
    public var startNanoseconds: Int64
    public var durationNanoseconds: Int64?
    /// Events that it stands for; nil when that is not known.
    public var lostEvents: UInt64?
    public var cause: GapCause
    public var processID: Int32?
    public var threadID: Int32?
  }

  /// Most gaps that are listed one by one; all are counted.
  public static let listedGaps = 1000

  /// Totals, counted anew from the events.
  public private(set) var totals = TraceTotals()
  /// The first `listedGaps` gaps.
  public private(set) var gaps: [Gap] = []
  /// Reads and writes by size asked for: entry n counts sizes in 2^(n-1)+1 … 2^n bytes, entry 0 sizes 0 and 1.
  public private(set) var readSizes = [UInt64](repeating: 0, count: 65)
  public private(set) var writeSizes = [UInt64](repeating: 0, count: 65)
  /// Failed calls by errno.
  public private(set) var errors: [Int32: UInt64] = [:]
  /// Most events and bytes within one second of those that begin at the first event, in a sorted trace.
  public private(set) var peakEventsPerSecond: UInt64 = 0
  public private(set) var peakBytesPerSecond: UInt64 = 0
  /// Latest start of an event in nanoseconds since the epoch.
  public private(set) var lastStartNanoseconds = Int64.min

  private var perOperation: [Operation?] = Array(repeating: nil, count: 256)
  private var perFile: [FileShare]
  private var threadPairs: Set<UInt64> = []
  private var processIDs: Set<Int32> = []
  private var lastThread = UInt64.max
  private var second = Int64.min
  private var secondEvents: UInt64 = 0
  private var secondBytes: UInt64 = 0

  /// For a trace with `files` rows in its file table; events that name another file count as without a file.
  public init(files: Int) { perFile = (0..<UInt32(clamping: files)).map { FileShare(file: $0) } }

  /// All events of `reader`, from its first.
  public static func scan(_ reader: TraceReader) throws(TraceError) -> TraceSummary {
    var summary = TraceSummary(files: reader.files.count)
    try reader.rewind()
    let batch = EventBatch(capacity: 1024)
    while try reader.next(into: batch) {
      for event in batch.buffer { summary.count(event) }
    }
    return summary
  }

  /// Operations that occur, by falling count.
  public var operations: [Operation] {
    perOperation.compactMap { $0 }.sorted { ($0.count, $1.operation.rawValue) > ($1.count, $0.operation.rawValue) }
  }

  /// The files with most bytes moved, at most `count`.
  public func topFiles(_ count: Int) -> [FileShare] {
    let used = perFile.filter { $0.reads + $0.writes + $0.others > 0 }
    return Array(used.sorted { ($0.bytes, $1.file) > ($1.bytes, $0.file) }.prefix(max(0, count)))
  }

  /// Distinct process numbers.
  public var processes: Int { processIDs.count }
  /// Distinct pairs of process and thread numbers.
  public var threads: Int { threadPairs.count }
  /// Calls that failed.
  public var errorCount: UInt64 { errors.values.reduce(0, +) }

  /// Latencies of all operations but gaps.
  public var latency: LatencyHistogram {
    var all = LatencyHistogram()
    for operation in perOperation { if let operation, operation.operation != .gap { all.merge(operation.latency) } }
    return all
  }

  // MARK: Counting

  /// Counts one event, in the order of the trace.
  public mutating func count(_ event: TraceEvent) {
    totals.count(event)
    lastStartNanoseconds = max(lastStartNanoseconds, event.startNanoseconds)
    countOperation(event)
    if event.operation == .gap { return countGap(event) }
    countFile(event)
    countThread(event)
    countRate(event)
    if event.operation == .read, let size = event.sizeIfKnown { readSizes[Self.sizeClass(size)] += 1 }
    if event.operation == .write, let size = event.sizeIfKnown { writeSizes[Self.sizeClass(size)] += 1 }
  }

  /// Number of the smallest power of two that is not below `size`.
  public static func sizeClass(_ size: UInt64) -> Int { size <= 1 ? 0 : 64 - (size - 1).leadingZeroBitCount }

  private mutating func countOperation(_ event: TraceEvent) {
    let slot = Int(event.operation.rawValue)
    if perOperation[slot] == nil { perOperation[slot] = Operation(operation: event.operation) }
    perOperation[slot]!.count += 1
    let isTransfer = event.operation == .read || event.operation == .write
    let bytes = isTransfer ? event.transferredBytes : Self.otherBytes(event)
    perOperation[slot]!.bytes &+= bytes
    if let latency = event.latencyIfKnown { perOperation[slot]!.latency.record(latency) }
    if event.operation != .gap, let result = event.resultIfKnown, result < 0 {
      perOperation[slot]!.errors += 1
      // Anything below is no errno; one slot bounds the table.
      errors[result >= -4095 ? Int32(-result) : 4096, default: 0] += 1
    }
  }

  /// Bytes of an operation that is no read or write. A copy asks for as much as there may be (cp asks for 2^63 − 1), so what it
  /// moved counts; other operations name a range.
  private static func otherBytes(_ event: TraceEvent) -> UInt64 {
    switch event.operation {
    case .gap: return 0
    case .copyRange, .sendfile, .splice, .send, .receive: return UInt64(max(0, event.resultIfKnown ?? 0))
    default: return event.sizeIfKnown ?? 0
    }
  }

  private mutating func countGap(_ event: TraceEvent) {
    guard gaps.count < Self.listedGaps else { return }
    gaps.append(
      Gap(
        startNanoseconds: event.startNanoseconds, durationNanoseconds: event.latencyIfKnown, lostEvents: event.sizeIfKnown,
        cause: GapCause(rawValue: event.result) ?? .unknown, processID: event.processIfKnown, threadID: event.threadIfKnown))
  }

  private mutating func countFile(_ event: TraceEvent) {
    guard let file = event.fileIfKnown, Int(file) < perFile.count else { return }
    switch event.operation {
    case .read:
      perFile[Int(file)].reads += 1
      perFile[Int(file)].bytesRead &+= event.transferredBytes
    case .write:
      perFile[Int(file)].writes += 1
      perFile[Int(file)].bytesWritten &+= event.transferredBytes
    default: perFile[Int(file)].others += 1
    }
  }

  private mutating func countThread(_ event: TraceEvent) {
    let pair = UInt64(UInt32(bitPattern: event.processID)) << 32 | UInt64(UInt32(bitPattern: event.threadID))
    guard pair != lastThread else { return }
    lastThread = pair
    threadPairs.insert(pair)
    if let process = event.processIfKnown { processIDs.insert(process) }
  }

  private mutating func countRate(_ event: TraceEvent) {
    let now = (event.startNanoseconds &- totals.firstTimeNanoseconds) / 1_000_000_000
    if now != second {
      second = now
      secondEvents = 0
      secondBytes = 0
    }
    secondEvents += 1
    secondBytes &+= event.transferredBytes
    peakEventsPerSecond = max(peakEventsPerSecond, secondEvents)
    peakBytesPerSecond = max(peakBytesPerSecond, secondBytes)
  }
}
