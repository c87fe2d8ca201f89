/// One request of a trace: 72 bytes of plain memory, so that batches are flat.
///
/// Every optional field has a value of its own for "not known", which is never 0; the `unknown…` constants and the
/// `…IfKnown` properties speak of it.
public struct TraceEvent: BitwiseCopyable, Hashable, Sendable {
  /// Start of the call in nanoseconds since the trace's epoch (`TraceMetadata.epochUnixNanoseconds`). Always known.
  public var startNanoseconds: Int64
  /// Duration in nanoseconds, or `unknownLatency`.
  public var latencyNanoseconds: Int64
  /// Byte offset in the file, or `unknownOffset`. The target position of a seek; the length of a truncate is its size.
  public var offsetBytes: UInt64
  /// Bytes asked for, or `unknownSize`.
  public var sizeBytes: UInt64
  /// Bytes moved or another non-negative result; −errno when the call failed; or `unknownResult`.
  public var result: Int64
  /// Number of the request in the trace that was replayed, or `unknownRequest` when this trace is no log of a replay.
  public var request: UInt64
  /// `TraceFile.id` of the file, or `unknownFile`.
  public var file: UInt32
  /// The second file of a rename, link, copy or splice, or `unknownFile`.
  public var otherFile: UInt32
  /// Process (thread group), or `unknownID`.
  public var processID: Int32
  /// Thread, or `unknownID`.
  public var threadID: Int32
  /// How the file was opened and the call was made.
  public var flags: TraceEventFlags
  /// What was asked of the file.
  public var operation: TraceOperation

  /// The call had not ended, or nobody measured it.
  public static let unknownLatency: Int64 = -1
  /// No offset: a stream, or it was not seen.
  public static let unknownOffset = UInt64.max
  /// No size in bytes.
  public static let unknownSize = UInt64.max
  /// The call had not ended, or its result was not seen.
  public static let unknownResult = Int64.min
  /// The trace is no log of a replay.
  public static let unknownRequest = UInt64.max
  /// No row of the file table.
  public static let unknownFile = UInt32.max
  /// No process or thread number.
  public static let unknownID: Int32 = -1

  /// An event of `operation` at `startNanoseconds`; everything else is not known unless given.
  public init(
    startNanoseconds: Int64, operation: TraceOperation, file: UInt32 = unknownFile,
    offsetBytes: UInt64 = unknownOffset, sizeBytes: UInt64 = unknownSize,
    latencyNanoseconds: Int64 = unknownLatency, result: Int64 = unknownResult,
    processID: Int32 = unknownID, threadID: Int32 = unknownID, flags: TraceEventFlags = [],
    otherFile: UInt32 = unknownFile, request: UInt64 = unknownRequest
  ) {
    self.startNanoseconds = startNanoseconds
    self.latencyNanoseconds = latencyNanoseconds
    self.offsetBytes = offsetBytes
    self.sizeBytes = sizeBytes
    self.result = result
    self.request = request
    self.file = file
    self.otherFile = otherFile
    self.processID = processID
    self.threadID = threadID
    self.flags = flags
    self.operation = operation
  }

  /// Nanoseconds, or nil.
  public var latencyIfKnown: Int64? { latencyNanoseconds == Self.unknownLatency ? nil : latencyNanoseconds }
  /// Bytes from the start of the file, or nil.
  public var offsetIfKnown: UInt64? { offsetBytes == Self.unknownOffset ? nil : offsetBytes }
  /// Bytes asked for, or nil.
  public var sizeIfKnown: UInt64? { sizeBytes == Self.unknownSize ? nil : sizeBytes }
  /// Bytes moved or another result, −errno for a failure, or nil.
  public var resultIfKnown: Int64? { result == Self.unknownResult ? nil : result }
  /// Number of the replayed request in its recording, or nil.
  public var requestIfKnown: UInt64? { request == Self.unknownRequest ? nil : request }
  /// `TraceFile.id`, or nil.
  public var fileIfKnown: UInt32? { file == Self.unknownFile ? nil : file }
  /// `TraceFile.id` of the second file, or nil.
  public var otherFileIfKnown: UInt32? { otherFile == Self.unknownFile ? nil : otherFile }
  /// Process number, or nil.
  public var processIfKnown: Int32? { processID == Self.unknownID ? nil : processID }
  /// Thread number, or nil.
  public var threadIfKnown: Int32? { threadID == Self.unknownID ? nil : threadID }

  /// Bytes that a read or write moved: the result when it is known and no error, else the size; 0 for other operations.
  public var transferredBytes: UInt64 {
    guard operation == .read || operation == .write else { return 0 }
    if result == Self.unknownResult { return sizeIfKnown ?? 0 }
    return result > 0 ? UInt64(result) : 0
  }
}
