/// One request on its way to an engine: 48 bytes of plain memory, so that many fit into the memory that a replay may use.
///
/// Numbers that are near each other are kept as distances from those of the batch (`RequestBatch`).
struct ReplayRequest: BitwiseCopyable {
  /// Start in the trace, in nanoseconds after the first replayed request; loops follow each other.
  var startNanoseconds: Int64
  var offsetBytes: Int64
  private var lengthLow: UInt32
  var file: UInt32
  /// Number of the event in the trace (plus the trace's length for each further loop), after `RequestBatch.firstNumber`.
  var numberOffset: UInt32
  /// Bytes that the recorded call moved less than it asked for; `unknownShortfall` when not known.
  private var shortfall: UInt32
  /// Row of `StreamTable`: the recorded thread.
  var stream: UInt32
  private var latencyUnits: UInt32
  private var flagsAndKind: UInt32
  /// Ordinal of the request, counted over all replayed ones, after `RequestBatch.firstOrdinal`.
  var ordinalOffset: UInt16
  /// RWF_* of preadv2(2) and pwritev2(2); the mode of sync_file_range(2).
  var callFlags: UInt8
  private var lengthShift: UInt8

  private static let unknownShortfall = UInt32.max
  /// 64 ns and at most 275 s: for deciding what had completed before a request started.
  private static let latencyUnitShift: Int64 = 6
  private static let unknownLatency = UInt32.max

  /// The request of a recorded one; nil when its length cannot be expressed (odd, and above 4 GiB).
  /// - Parameter movedBytes: bytes that the recorded call moved; −1 when not known.
  @inline(__always)
  init?(
    startNanoseconds: Int64, offsetBytes: Int64, lengthBytes: Int, movedBytes: Int64, latencyNanoseconds: Int64, file: UInt32,
    flags: TraceEventFlags, kind: IOOperation.Kind, callFlags: UInt8
  ) {
    self.startNanoseconds = startNanoseconds
    self.offsetBytes = offsetBytes
    self.file = file
    self.callFlags = callFlags
    lengthLow = UInt32(truncatingIfNeeded: lengthBytes)
    lengthShift = 0
    if lengthBytes >> 32 != 0 {
      let shift = max(0, 32 - lengthBytes.leadingZeroBitCount)
      guard (lengthBytes >> shift) << shift == lengthBytes else { return nil }
      lengthLow = UInt32(lengthBytes >> shift)
      lengthShift = UInt8(shift)
    }
    let missing = Int64(lengthBytes) &- movedBytes
    shortfall = movedBytes < 0 ? Self.unknownShortfall : UInt32(clamping: min(max(0, missing), Int64(Self.unknownShortfall) - 1))
    latencyUnits =
      latencyNanoseconds < 0
      ? Self.unknownLatency : UInt32(min(latencyNanoseconds >> Self.latencyUnitShift, Int64(Self.unknownLatency) - 1))
    flagsAndKind = flags.rawValue << 8 | UInt32(kind.rawValue)
    numberOffset = 0
    ordinalOffset = 0
    stream = 0
  }

  @inline(__always)
  var kind: IOOperation.Kind { IOOperation.Kind(rawValue: UInt8(truncatingIfNeeded: flagsAndKind)).unsafelyUnwrapped }
  /// The recorded flags; bits above the 24th are not kept.
  @inline(__always)
  var flags: TraceEventFlags { TraceEventFlags(rawValue: flagsAndKind >> 8) }
  @inline(__always)
  var lengthBytes: Int { Int(lengthLow) << Int(lengthShift) }
  /// Bytes that the recorded call moved; all of them when not known.
  @inline(__always)
  var expectedBytes: Int64 {
    shortfall == Self.unknownShortfall ? Int64(lengthBytes) : Int64(lengthBytes) &- Int64(shortfall)
  }
  /// Its recorded latency in nanoseconds, within 64 ns; nil when not known.
  @inline(__always)
  var recordedLatencyNanoseconds: Int64? {
    latencyUnits == Self.unknownLatency ? nil : Int64(latencyUnits) << Self.latencyUnitShift
  }
}

/// A flat buffer of requests that travels between the decoding thread and a worker.
final class RequestBatch: @unchecked Sendable {
  static let capacity = 512
  static let memoryBytes = capacity * MemoryLayout<ReplayRequest>.stride
  let requests: UnsafeMutablePointer<ReplayRequest>
  var count = 0
  /// What the requests' own numbers count from.
  var firstNumber: UInt64 = 0
  var firstOrdinal: UInt64 = 0
  /// First request that no worker has claimed, and requests that are not done; under the queue's lock.
  var claimed = 0
  var unfinished = 0

  /// Whose memory the requests lie in; nil when it is the batch's own.
  private let owner: AnyObject?

  init() {
    requests = .allocate(capacity: Self.capacity)
    owner = nil
  }

  /// A batch in memory of `memoryBytes` that `owner` keeps.
  init(memory: UnsafeMutableRawPointer, owner: AnyObject) {
    requests = memory.bindMemory(to: ReplayRequest.self, capacity: Self.capacity)
    self.owner = owner
  }

  deinit { if owner == nil { requests.deallocate() } }

  /// It can be used again when its requests are done.
  var isReusable: Bool { owner == nil }

  /// Whether requests this far from the first one's numbers can stand in a batch.
  @inline(__always)
  static func spans(_ numbers: UInt64, _ ordinals: UInt64) -> Bool { numbers <= UInt64(UInt32.max) && ordinals <= UInt64(UInt16.max) }

  /// Whether a request with these numbers can stand in it.
  @inline(__always)
  func takes(number: UInt64, ordinal: UInt64) -> Bool {
    count < Self.capacity && (count == 0 || Self.spans(number &- firstNumber, ordinal &- firstOrdinal))
  }

  /// Makes the request at `requests[count]` part of the batch.
  @inline(__always)
  func add(number: UInt64, ordinal: UInt64) {
    if count == 0 {
      firstNumber = number
      firstOrdinal = ordinal
    }
    requests[count].numberOffset = UInt32(truncatingIfNeeded: number &- firstNumber)
    requests[count].ordinalOffset = UInt16(truncatingIfNeeded: ordinal &- firstOrdinal)
    count += 1
  }
}
