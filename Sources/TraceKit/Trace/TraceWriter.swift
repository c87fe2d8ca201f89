import CTrace
import FoundationEssentials
import Glibc

/// Writes a trace, block by block, in constant memory. Not for several threads at once.
///
/// Events may come nearly sorted by start: each block is sorted before it is written, and the file says whether the whole
/// is. `ReorderWindow` in front of a writer makes it so.
public final class TraceWriter {
  /// How a trace is written.
  public struct Options: Sendable {
    /// Replace an existing file.
    public var overwrite = false
    /// Events of a block, 1…65,536.
    public var blockEvents = TraceFormat.maximumBlockEvents
    /// deflate level, 1 (fast) … 9 (small).
    public var compressionLevel: Int32 = TraceWriter.defaultCompressionLevel
    /// Most bytes of the file; what does not fit is refused, see `isFull`.
    public var maximumBytes: UInt64?
    /// What was written before a failure stays; false when the caller removes it. For the message only.
    public var keepsUnfinished = true
    public init() {}
  }

  public static let defaultCompressionLevel: Int32 = 4

  public let path: String
  /// Everything so far: what the end block will say.
  public private(set) var totals = TraceTotals()
  /// Bytes of the file so far.
  public private(set) var sizeBytes: UInt64 = 0
  /// The next block would not fit; nothing more is taken.
  public private(set) var isFull = false
  /// Bytes of the largest block of events so far, header included.
  private(set) var largestBlockBytes: UInt64 = 0
  /// Room that the last metadata block may need, beside the index and the end block.
  var closingReserveBytes: UInt64 = 0
  private var maximumBytes: UInt64?
  private let descriptor: Int32
  private let options: Options
  private var metadata: TraceMetadata
  private var encoder: EventBlockEncoder
  private let events: UnsafeMutablePointer<TraceEvent>
  private var eventCount = 0
  private var pendingInOrder = true
  private var lastStart = Int64.min
  private var latestStart = Int64.min
  private var pendingFiles: [TraceFile] = []
  private var nextFile: UInt32 = 0
  private var index: [TraceIndexEntry] = []
  private var sequence: UInt64 = 0
  private var threads: Set<UInt64> = []
  /// The different pairs of process and thread so far.
  var threadKeys: Set<UInt64> { threads }
  private var block: [UInt8] = []
  private var eventBlock: [UInt8] = []
  private var storedEvents: UInt64 = 0
  private var failed = false
  private var finished = false

  /// Creates the file with mode 0600 and writes preamble and metadata.
  /// - Throws: when the file exists and `overwrite` is not set, or can't be written.
  public init(path: String, metadata: TraceMetadata, options: Options = Options()) throws(TraceError) {
    self.path = path
    self.options = options
    self.metadata = metadata
    self.metadata.compressionLevel = Int(options.compressionLevel)
    let capacity = max(1, min(options.blockEvents, TraceFormat.maximumBlockEvents))
    descriptor = try Self.create(path, overwrite: options.overwrite)
    encoder = EventBlockEncoder(capacity: capacity, level: max(1, min(9, options.compressionLevel)))
    events = .allocate(capacity: capacity)
    try writeAll(Preamble(createdUnixNanoseconds: ctrace_realtime_ns()).encoded())
    try writeMetadata()
    maximumBytes = options.maximumBytes
    // The last metadata block has the first one's keys, and a ledger.
    closingReserveBytes = 2 * sizeBytes + 16_384
  }

  deinit {
    close(descriptor)
    events.deallocate()
  }

  private static func create(_ path: String, overwrite: Bool) throws(TraceError) -> Int32 {
    let descriptor = ctrace_open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    if descriptor >= 0 { return descriptor }
    let code = errno
    guard code == EEXIST else { throw TraceError(path: path, "create it", errno: code) }
    guard overwrite else {
      throw TraceError(.refused, "\(PrintableText.escaped(path)): exists already; --force replaces it")
    }
    var status = stat()
    guard stat(path, &status) == 0, FileMode.kind(status.st_mode) == .regular else {
      throw TraceError(.refused, "\(PrintableText.escaped(path)): not a regular file, so it is not replaced")
    }
    let replaced = ctrace_open(path, O_WRONLY | O_TRUNC | O_CLOEXEC, 0o600)
    guard replaced >= 0 else { throw TraceError(path: path, "replace it", errno: errno) }
    fchmod(replaced, 0o600)
    return replaced
  }

  // MARK: Appending

  /// Adds a row to the file table, whatever `id` it carries, and returns the id that events must use.
  public func addFile(_ file: TraceFile) -> UInt32 {
    var row = file
    row.id = nextFile
    pendingFiles.append(row)
    nextFile += 1
    totals.files = UInt64(nextFile)
    return row.id
  }

  /// Adds an event; a full block is written. Nothing may be added when `isFull`.
  public func append(_ event: TraceEvent) throws(TraceError) {
    events[eventCount] = event
    eventCount += 1
    if event.startNanoseconds < lastStart { pendingInOrder = false }
    lastStart = event.startNanoseconds
    if eventCount == options.blockEvents || eventCount == TraceFormat.maximumBlockEvents { try flush() }
  }

  /// Writes what is pending as a block of its own, so that it survives a crash of the writer.
  public func flush() throws(TraceError) {
    guard eventCount > 0 || !pendingFiles.isEmpty, !isFull else { return }
    encodePending()
    guard hasRoom else {
      isFull = true
      return
    }
    try writeFiles()
    guard eventCount > 0 else { return }
    let pending = UnsafeBufferPointer(start: events, count: eventCount)
    let firstEvent = totals.events
    let continues = pending[0].startNanoseconds >= latestStart
    if !continues { totals.sorted = false }
    for i in 0..<pending.count { totals.count(pending[i]) }
    latestStart = max(latestStart, pending[pending.count - 1].startNanoseconds)
    for key in encoder.threadDictionary { threads.insert(key) }
    totals.threads = UInt64(threads.count)
    let header = BlockHeader(
      type: .events, count: pending.count, rawBytes: encoder.rawBytes, firstTimeNanoseconds: pending[0].startNanoseconds,
      lastTimeNanoseconds: pending[pending.count - 1].startNanoseconds, firstEvent: firstEvent, sequence: sequence,
      continuesInOrder: continues)
    eventCount = 0
    pendingInOrder = true
    lastStart = Int64.min
    swap(&block, &eventBlock)
    largestBlockBytes = max(largestBlockBytes, UInt64(block.count))
    try endBlock(header)
  }

  /// The pending events, sorted, as a block without its header in `eventBlock`.
  private func encodePending() {
    guard eventCount > 0 else { return }
    if !pendingInOrder { sortPending() }
    swap(&block, &eventBlock)
    beginBlock()
    encoder.encode(UnsafeBufferPointer(start: events, count: eventCount), into: &block)
    swap(&block, &eventBlock)
  }

  // MARK: The limit

  /// The pending rows and events fit, with what closing the trace takes.
  private var hasRoom: Bool {
    guard let maximumBytes else { return true }
    let rows = pendingFiles.reduce(0) { $0 + UInt64($1.path.count) + 96 }
    let pending = rows + (eventCount > 0 ? UInt64(eventBlock.count) : 0)
    return sizeBytes + pending + closingBytes <= maximumBytes
  }

  /// At most what closing the trace takes.
  var closingBytes: UInt64 {
    UInt64((index.count + 8) * TraceFormat.indexEntryBytes + 4 * TraceFormat.blockHeaderBytes) + closingReserveBytes
  }

  /// The events that did not fit, in order; they and the rows that only they name are forgotten.
  func takeRefused() -> [TraceEvent] {
    let refused = Array(UnsafeBufferPointer(start: events, count: eventCount))
    eventCount = 0
    pendingInOrder = true
    lastStart = Int64.min
    nextFile -= UInt32(pendingFiles.count)
    totals.files = UInt64(nextFile)
    pendingFiles.removeAll()
    return refused
  }

  /// Lifts the limit for the last blocks, for which room was left.
  func allowClosing() {
    isFull = false
    maximumBytes = nil
  }

  /// Adds a metadata block; readers take the last one.
  public func updateMetadata(_ change: (inout TraceMetadata) -> Void) throws(TraceError) {
    change(&metadata)
    try flush()
    try writeMetadata()
  }

  /// Writes the rest, the index and the end block, and returns what the end block says.
  /// - Parameter lossless: false when the recorder knows that it missed something; gaps say so by themselves.
  @discardableResult
  public func finish(lossless: Bool = true) throws(TraceError) -> TraceTotals {
    precondition(!finished, "a trace is finished once")
    try flush()
    finished = true
    totals.lossless = lossless && totals.gaps == 0
    let indexOffset = try writeIndex()
    beginBlock()
    block += totals.encoded(indexOffset: indexOffset, endOffset: sizeBytes)
    try endBlock(plainHeader(.end, count: 1))
    return totals
  }

  /// Stable order by start within the block.
  private func sortPending() {
    var buffer = Array(UnsafeBufferPointer(start: events, count: eventCount))
    buffer.sort { $0.startNanoseconds < $1.startNanoseconds }
    buffer.withUnsafeBufferPointer { events.update(from: $0.baseAddress!, count: eventCount) }
  }

  // MARK: Blocks

  private func writeMetadata() throws(TraceError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    guard let json = try? encoder.encode(metadata) else {
      throw TraceError(.refused, "\(PrintableText.escaped(path)): its metadata can't be written as JSON")
    }
    beginBlock()
    block += json
    try endBlock(plainHeader(.metadata, count: 1))
  }

  private func writeFiles() throws(TraceError) {
    guard !pendingFiles.isEmpty else { return }
    var next = 0
    // A block's payload is bounded, so many rows take several.
    while next < pendingFiles.count {
      beginBlock()
      let first = next
      while next < pendingFiles.count, block.count < 1 << 20 {
        TraceFileCoding.append(pendingFiles[next], to: &block)
        next += 1
      }
      try endBlock(plainHeader(.files, count: next - first))
    }
    pendingFiles.removeAll()
  }

  private func writeIndex() throws(TraceError) -> UInt64 {
    // A longer index would not be read; readers then rebuild it by a scan.
    guard index.count * TraceFormat.indexEntryBytes <= TraceFormat.maximumPayloadBytes else { return 0 }
    let offset = sizeBytes
    let entries = index
    beginBlock()
    for entry in entries { entry.append(to: &block) }
    try endBlock(plainHeader(.index, count: entries.count))
    return offset
  }

  private func plainHeader(_ type: BlockType, count: Int) -> BlockHeader {
    BlockHeader(
      type: type, count: count, rawBytes: block.count - TraceFormat.blockHeaderBytes, firstTimeNanoseconds: 0,
      lastTimeNanoseconds: 0, firstEvent: totals.events, sequence: sequence, continuesInOrder: true)
  }

  private func beginBlock() {
    block.removeAll(keepingCapacity: true)
    block.append(contentsOf: repeatElement(0, count: TraceFormat.blockHeaderBytes))
  }

  private func endBlock(_ unfinished: BlockHeader) throws(TraceError) {
    var header = unfinished
    header.storedBytes = UInt32(block.count - TraceFormat.blockHeaderBytes)
    block.withUnsafeMutableBytes { bytes in
      let payload = bytes.baseAddress! + TraceFormat.blockHeaderBytes
      header.payloadChecksum = Checksum.crc32(payload, count: Int(header.storedBytes))
      header.encode(into: bytes.baseAddress!)
    }
    let entry = TraceIndexEntry(offset: sizeBytes, header: header)
    try writeAll(block)
    index.append(entry)
    sequence += 1
    if header.type == BlockType.events.rawValue { storedEvents += UInt64(header.count) }
  }

  /// Appends bytes; on failure the file is cut back to the last whole block.
  private func writeAll(_ bytes: [UInt8]) throws(TraceError) {
    if failed { throw TraceError(.refused, "\(PrintableText.escaped(path)): an earlier write failed; nothing more is written") }
    var written = 0
    while written < bytes.count {
      let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + written, bytes.count - written) }
      if count < 0, errno == EINTR { continue }
      if count <= 0 {
        let code = count < 0 ? errno : EIO
        ftruncate(descriptor, off_t(sizeBytes))
        failed = true
        throw TraceError(
          path: path, "write to it", errno: code,
          hint: (options.keepsUnfinished ? "the \(storedEvents) events before are kept and readable; " : "") + "another folder with -o")
      }
      written += count
    }
    sizeBytes += UInt64(bytes.count)
  }
}
