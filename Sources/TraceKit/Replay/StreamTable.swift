/// Numbers the recorded threads, so that a request names its own in four bytes. The decoding thread adds rows; workers read the
/// rows of requests that were handed to them, which a queue's lock orders after the writing.
final class StreamTable: @unchecked Sendable {
  /// A recorded thread.
  struct Thread: Hashable, BitwiseCopyable {
    var processID: Int32
    var threadID: Int32
  }

  private static let chunkRows = 4096
  /// Threads beyond this many share the last row.
  static let maximumRows = 1 << 22
  private let chunks: UnsafeMutablePointer<UnsafeMutablePointer<Thread>?>
  private var rows: [Thread: UInt32] = [:]
  private(set) var count = 0

  init() {
    let chunkCount = Self.maximumRows / Self.chunkRows
    chunks = .allocate(capacity: chunkCount)
    chunks.initialize(repeating: nil, count: chunkCount)
  }

  deinit {
    for i in 0..<(count + Self.chunkRows - 1) / Self.chunkRows { chunks[i]?.deallocate() }
    chunks.deallocate()
  }

  /// The row of a thread, made at its first request.
  @inline(never)
  func row(_ thread: Thread) -> UInt32 {
    if let row = rows[thread] { return row }
    let row = min(count, Self.maximumRows - 1)
    if chunks[row / Self.chunkRows] == nil { chunks[row / Self.chunkRows] = .allocate(capacity: Self.chunkRows) }
    if row == count {
      chunks[row / Self.chunkRows]![row % Self.chunkRows] = thread
      count += 1
    }
    rows[thread] = UInt32(row)
    return UInt32(row)
  }

  @inline(__always)
  func thread(_ row: UInt32) -> Thread { chunks[Int(row) / Self.chunkRows].unsafelyUnwrapped[Int(row) % Self.chunkRows] }
}
