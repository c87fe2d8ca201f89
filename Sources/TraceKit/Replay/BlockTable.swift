import CTrace
import Glibc

/// What verification remembers: a row per block of 512 bytes, and the expected bytes of blocks that several requests wrote parts of.
/// Both lie in temporary files that are mapped: the kernel writes back what memory does not hold.
final class BlockTable: @unchecked Sendable {
  /// What a block should hold.
  enum State: UInt8, BitwiseCopyable {
    /// What it held before the replay.
    case untouched = 0
    /// What the row's request wrote.
    case stamped
    /// Bytes of several requests: a piece of `mixedBytes`.
    case mixed
    /// Not known: requests on it overlapped in time, or failed.
    case unknown
    case zero
  }

  struct Row: BitwiseCopyable {
    var request: UInt64
    /// When the block last changed, or began to; counted, not timed.
    var tick: UInt64
    /// Piece of the mixed bytes that belongs to the block, plus 1; 0 for none.
    var piece: UInt32
    /// Writes in flight.
    var writers: UInt16
    private var rawState: UInt8
    /// Two writes were in flight at once.
    var isContested: Bool

    var state: State {
      get { State(rawValue: rawState).unsafelyUnwrapped }
      set { rawState = newValue.rawValue }
    }
  }

  /// Expected bytes of a block, and a bit for each that is known.
  static let pieceBytes = StampedBlock.bytes + StampedBlock.bytes / 8
  private static let pieceStep = 4096
  private static let maximumPieces = 1 << 26

  private let rowFile: Int32
  private let pieceFile: Int32
  private let rows: UnsafeMutablePointer<Row>
  private let rowMapBytes: Int
  private let pieces: UnsafeMutableRawPointer
  private let pieceMapBytes: Int
  private var pieceCount = 0
  private var pieceLimit = 0
  private let pieceLock: UnsafeMutablePointer<pthread_mutex_t>
  /// First row of each target, and one more.
  private let starts: UnsafeMutablePointer<Int>
  let targetCount: Int

  /// - Parameters:
  ///   - blockCounts: blocks of each target.
  ///   - written: parts of the targets that will be written, in blocks, for which room is taken now.
  ///   - folder: where the temporary files lie.
  init(blockCounts: [Int], written: [(target: Int, blocks: Range<Int>)], folder: String) throws(TraceError) {
    targetCount = blockCounts.count
    starts = .allocate(capacity: blockCounts.count + 1)
    starts[0] = 0
    var total = 0
    for (i, count) in blockCounts.enumerated() {
      total += count
      starts[i + 1] = total
    }
    rowMapBytes = max(1, total) * MemoryLayout<Row>.stride
    pieceMapBytes = min(Self.maximumPieces, max(1, total)) * Self.pieceBytes
    rowFile = try Self.temporaryFile(folder, rowMapBytes)
    pieceFile = try Self.temporaryFile(folder, pieceMapBytes)
    guard let mapping = ctrace_map_file(rowFile, 0, rowMapBytes, 1), let more = ctrace_map_file(pieceFile, 0, pieceMapBytes, 1) else {
      throw TraceError(path: folder, "map the table of --verify", errno: errno)
    }
    rows = mapping.bindMemory(to: Row.self, capacity: max(1, total))
    pieces = more
    pieceLock = .allocate(capacity: 1)
    pthread_mutex_init(pieceLock, nil)
    for part in written { try reserve(part.target, part.blocks, folder) }
  }

  deinit {
    munmap(rows, rowMapBytes)
    munmap(pieces, pieceMapBytes)
    close(rowFile)
    close(pieceFile)
    starts.deallocate()
    pthread_mutex_destroy(pieceLock)
    pieceLock.deallocate()
  }

  private static func temporaryFile(_ folder: String, _ bytes: Int) throws(TraceError) -> Int32 {
    var descriptor = ctrace_open(folder, O_RDWR | CTRACE_O_TMPFILE | O_CLOEXEC, 0o600)
    if descriptor < 0 {
      var template = Array("\(folder)/trace-replay-verify.XXXXXX".utf8CString)
      descriptor = mkstemp(&template)
      guard descriptor >= 0 else {
        throw TraceError(path: folder, "make the temporary files of --verify", errno: errno, hint: "TMPDIR names another folder")
      }
      unlink(template)
    }
    guard ftruncate(descriptor, bytes) == 0 else {
      let code = errno
      close(descriptor)
      throw TraceError(
        path: folder, "make a temporary file of \(ByteCount.text(UInt64(bytes))) for --verify", errno: code,
        hint: "the trace reaches far; TMPDIR names another folder")
    }
    return descriptor
  }

  /// Takes room for rows, so that storing into the mapping cannot fail later.
  private func reserve(_ target: Int, _ blocks: Range<Int>, _ folder: String) throws(TraceError) {
    let first = starts[target] + min(blocks.lowerBound, blockCount(target))
    let last = starts[target] + min(blocks.upperBound, blockCount(target))
    guard first < last else { return }
    let stride = MemoryLayout<Row>.stride
    if ctrace_fallocate(rowFile, 0, Int64(first * stride), Int64((last - first) * stride)) != 0, errno != EOPNOTSUPP {
      throw TraceError(
        path: folder, "take room for what --verify remembers", errno: errno,
        hint: "24 bytes for each 512 that are written; TMPDIR names another folder")
    }
  }

  @inline(__always)
  func blockCount(_ target: Int) -> Int { starts[target + 1] - starts[target] }

  @inline(__always)
  func row(_ target: Int, _ block: Int) -> UnsafeMutablePointer<Row> { rows + (starts[target] + block) }

  /// Forgets the rows of a target from `block` on: they are untouched then.
  func forget(_ target: Int, from block: Int) {
    let first = starts[target] + min(block, blockCount(target))
    let count = starts[target + 1] - first
    guard count > 0 else { return }
    let stride = MemoryLayout<Row>.stride
    // Whole pages of the table are given back; a filesystem that cannot do that has zeros stored.
    if count * stride > 1 << 16,
      ctrace_fallocate(rowFile, CTRACE_FALLOC_PUNCH_HOLE, Int64(first * stride), Int64(count * stride)) == 0,
      ctrace_fallocate(rowFile, 1, Int64(first * stride), Int64(count * stride)) == 0  // FALLOC_FL_KEEP_SIZE
    {
      return
    }
    memset(rows + first, 0, count * stride)
  }

  /// The piece of a row, made at first use; nil when there is no room for more.
  func piece(_ row: UnsafeMutablePointer<Row>) -> UnsafeMutableRawPointer? {
    if row.pointee.piece == 0 {
      guard let number = newPiece() else { return nil }
      row.pointee.piece = UInt32(number + 1)
    }
    return pieces + Int(row.pointee.piece - 1) * Self.pieceBytes
  }

  private func newPiece() -> Int? {
    pthread_mutex_lock(pieceLock)
    defer { pthread_mutex_unlock(pieceLock) }
    if pieceCount == pieceLimit {
      let more = min(Self.pieceStep, pieceMapBytes / Self.pieceBytes - pieceLimit)
      guard more > 0 else { return nil }
      let (start, length) = (Int64(pieceLimit * Self.pieceBytes), Int64(more * Self.pieceBytes))
      if ctrace_fallocate(pieceFile, 0, start, length) != 0, errno != EOPNOTSUPP { return nil }
      pieceLimit += more
    }
    pieceCount += 1
    return pieceCount - 1
  }

  /// The next block of a target, from `block` on, whose row may have been touched; nil when there is none.
  func nextTouched(_ target: Int, from block: Int) -> Int? {
    guard block < blockCount(target) else { return nil }
    let stride = MemoryLayout<Row>.stride
    let wanted = starts[target] + block
    let found = lseek(rowFile, wanted * stride, 3)  // SEEK_DATA
    if found < 0 { return errno == ENXIO ? nil : block }
    let next = max(wanted, found / stride)
    return next < starts[target + 1] ? next - starts[target] : nil
  }
}
