/// What the end block of a trace says of the whole; 128 bytes in the file.
public struct TraceTotals: Hashable, Sendable {
  /// All events, gaps and name operations included.
  public var events: UInt64 = 0
  public var gaps: UInt64 = 0
  /// Events that the gaps stand for; nil when one of them doesn't know.
  public var lostEvents: UInt64? = 0
  public var digest = TraceDigest()
  /// No gap, and the recorder says that it missed nothing that it could have seen.
  public var lossless = true
  /// No event starts before the one that it follows.
  public var sorted = true
  public var files: UInt64 = 0
  /// Different pairs of process and thread.
  public var threads: UInt64 = 0
  public var firstTimeNanoseconds: Int64 = 0
  /// Latest known end (start plus latency) of an event.
  public var lastTimeNanoseconds: Int64 = 0
  public var reads: UInt64 = 0
  public var writes: UInt64 = 0
  /// Bytes moved by reads: results where known, else sizes.
  public var bytesRead: UInt64 = 0
  public var bytesWritten: UInt64 = 0

  public init() {}

  /// Last end minus first start, in nanoseconds; 0 for an empty trace.
  public var durationNanoseconds: Int64 { events == 0 ? 0 : max(0, lastTimeNanoseconds &- firstTimeNanoseconds) }

  /// Counts one event, in the order of the trace.
  @inline(__always)
  public mutating func count(_ event: borrowing TraceEvent) {
    let start = event.startNanoseconds
    let end = start &+ max(0, event.latencyNanoseconds)
    if events == 0 {
      firstTimeNanoseconds = start
      lastTimeNanoseconds = end
    } else {
      if start < firstTimeNanoseconds { firstTimeNanoseconds = start }
      if end > lastTimeNanoseconds { lastTimeNanoseconds = end }
    }
    events &+= 1
    digest.combine(event)
    switch event.operation {
    case .read:
      reads &+= 1
      bytesRead &+= event.transferredBytes
    case .write:
      writes &+= 1
      bytesWritten &+= event.transferredBytes
    case .gap:
      gaps &+= 1
      if let lost = lostEvents, let size = event.sizeIfKnown { lostEvents = lost &+ size } else { lostEvents = nil }
    default: break
    }
  }

  func encoded(indexOffset: UInt64, endOffset: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(TraceFormat.endPayloadBytes)
    bytes.appendLittleEndian(events)
    bytes.appendLittleEndian(gaps)
    bytes.appendLittleEndian(lostEvents ?? UInt64.max)
    bytes.appendLittleEndian(digest.low)
    bytes.appendLittleEndian(digest.high)
    bytes.append(lossless ? 1 : 0)
    bytes.append(sorted ? 1 : 0)
    bytes += [0, 0, 0, 0, 0, 0]
    bytes.appendLittleEndian(files)
    bytes.appendLittleEndian(threads)
    bytes.appendLittleEndian(firstTimeNanoseconds)
    bytes.appendLittleEndian(lastTimeNanoseconds)
    bytes.appendLittleEndian(reads)
    bytes.appendLittleEndian(writes)
    bytes.appendLittleEndian(bytesRead)
    bytes.appendLittleEndian(bytesWritten)
    bytes.appendLittleEndian(indexOffset)
    bytes.appendLittleEndian(endOffset)
    return bytes
  }

  /// Totals, index offset and own offset of an end block's payload, or nil when it is too short.
  static func decode(_ payload: [UInt8]) -> (totals: TraceTotals, indexOffset: UInt64, endOffset: UInt64)? {
    guard payload.count >= TraceFormat.endPayloadBytes else { return nil }
    func word(_ number: Int) -> UInt64 { payload.littleEndian(number * 8, as: UInt64.self)! }
    var totals = TraceTotals()
    totals.events = word(0)
    totals.gaps = word(1)
    totals.lostEvents = word(2) == UInt64.max ? nil : word(2)
    totals.digest = TraceDigest(low: word(3), high: word(4))
    totals.lossless = payload[40] != 0
    totals.sorted = payload[41] != 0
    totals.files = word(6)
    totals.threads = word(7)
    totals.firstTimeNanoseconds = Int64(bitPattern: word(8))
    totals.lastTimeNanoseconds = Int64(bitPattern: word(9))
    totals.reads = word(10)
    totals.writes = word(11)
    totals.bytesRead = word(12)
    totals.bytesWritten = word(13)
    return (totals, word(14), word(15))
  }
}
