/// What a trace will touch, found by reading it once before the replay: sizes for scratch files, checks of targets.
public struct TraceSurvey: Sendable {
  /// Bits of the areas of one file that are read and written, in chunks.
  struct Areas: Sendable {
    private var chunkShift: UInt64 = 20
    var chunkBytes: UInt64 { 1 << chunkShift }
    private var words: [UInt64] = []
    static let maximumChunks: UInt64 = 1 << 22

    /// Marks `length` bytes at `offset`; the chunks grow when there are too many.
    @inline(__always)
    mutating func mark(_ offset: UInt64, _ length: UInt64) {
      guard length > 0 else { return }
      let end = offset &+ length
      while (end - 1) >> chunkShift >= Self.maximumChunks { coarsen() }
      let last = Int((end - 1) >> chunkShift)
      var chunk = Int(offset >> chunkShift)
      if last >> 6 >= words.count { words += repeatElement(0, count: (last >> 6) + 1 - words.count) }
      while chunk <= last {
        words[chunk >> 6] |= 1 << UInt64(chunk & 63)
        chunk += 1
      }
    }

    private mutating func coarsen() {
      var half = [UInt64](repeating: 0, count: (words.count + 1) / 2)
      for chunk in 0..<words.count * 64 where words[chunk >> 6] >> UInt64(chunk & 63) & 1 != 0 {
        half[chunk >> 7] |= 1 << UInt64((chunk >> 1) & 63)
      }
      words = half
      chunkShift += 1
    }

    var bytes: UInt64 { words.reduce(0) { $0 + UInt64($1.nonzeroBitCount) } * chunkBytes }

    /// Whether the chunk of a byte is marked.
    func contains(_ offset: UInt64) -> Bool {
      let chunk = offset / chunkBytes
      return chunk >> 6 < UInt64(words.count) && words[Int(chunk >> 6)] >> (chunk & 63) & 1 != 0
    }

    /// Byte offsets of the marked chunks.
    var offsets: [UInt64] {
      (0..<words.count * 64).filter { words[$0 >> 6] >> UInt64($0 & 63) & 1 != 0 }.map { UInt64($0) * chunkBytes }
    }
  }

  /// One recorded file.
  struct File: Sendable {
    var requests: UInt64 = 0
    var reads = false
    var changes = false
    /// End of the furthest byte that is read successfully, written, or either.
    var readEnd: UInt64 = 0
    var writeEnd: UInt64 = 0
    var bytesToWrite: UInt64 = 0
    /// How much must exist before the replay so that reads find data that the replay itself doesn't write first.
    var neededBefore: UInt64 = 0
    var readAreas = Areas()
    var writeAreas = Areas()
    var flags: TraceEventFlags = []
    /// It is truncated, or extended, to a size.
    var truncates = false
    /// Offsets and lengths of the requests with O_DIRECT, all bits together: the low ones tell their alignment.
    var directBits: UInt64 = 0
  }

  var files: [File]
  public private(set) var requests: UInt64 = 0
  public private(set) var bytesRead: UInt64 = 0
  public private(set) var bytesWritten: UInt64 = 0
  /// Bytes that the reads ask for, whatever they moved when recorded.
  public private(set) var lengthsRead: UInt64 = 0
  /// Largest read or write in bytes.
  public private(set) var largestRequestBytes: UInt64 = 0
  /// Last due time minus the first, in nanoseconds.
  public private(set) var durationNanoseconds: Int64 = 0
  /// Requests whose latency is known.
  public private(set) var recordedLatencies: UInt64 = 0
  /// Recorded time from the first to the last request.
  public private(set) var recordedNanoseconds: Int64 = 0

  init(fileCount: Int) { files = Array(repeating: File(), count: fileCount) }

  /// Counts the requests of a batch.
  mutating func add(_ batch: RequestBatch) {
    requests += UInt64(batch.count)
    // A pointer, since an element of an array that is changed in place is checked for uniqueness at each access.
    var files = self.files
    self.files = []
    files.withUnsafeMutableBufferPointer { rows in
      for i in 0..<batch.count { add(batch.requests + i, &rows[Int(batch.requests[i].file)]) }
    }
    self.files = files
  }

  /// Ends the survey.
  /// - Parameters:
  ///   - requests: number of all requests that were made.
  ///   - recordedLatencies: of how many the latency is known.
  mutating func finish(schedule: ReplaySchedule, requests: UInt64, recordedLatencies: UInt64) {
    self.recordedLatencies = recordedLatencies
    guard requests > 0 else { return }
    // The first request is due at 0, and the schedule is monotonic.
    durationNanoseconds = schedule.due(startNanoseconds: recordedNanoseconds, ordinal: requests - 1)
  }

  @inline(__always)
  private mutating func add(_ pointer: UnsafePointer<ReplayRequest>, _ file: inout File) {
    let request = pointer.pointee
    recordedNanoseconds = max(recordedNanoseconds, request.startNanoseconds)
    let offset = UInt64(request.offsetBytes)
    let length = UInt64(request.lengthBytes)
    switch request.kind {
    case .read:
      let moved = UInt64(max(0, request.expectedBytes))
      bytesRead &+= moved
      lengthsRead &+= length
      largestRequestBytes = max(largestRequestBytes, length)
      file.reads = true
      if moved > 0 {
        let end = offset + moved
        if end > file.readEnd { file.readEnd = end }
        if end > file.writeEnd, end > file.neededBefore { file.neededBefore = end }
        file.readAreas.mark(offset, moved)
      }
    case .write:
      bytesWritten &+= length
      largestRequestBytes = max(largestRequestBytes, length)
      file.changes = true
      file.bytesToWrite &+= length
      if offset + length > file.writeEnd { file.writeEnd = offset + length }
      file.writeAreas.mark(offset, length)
    case .truncate, .discard, .allocate:
      file.changes = true
      if request.kind == .truncate { file.truncates = true }
    case .fsync, .fdatasync, .syncFileRange: break
    }
    file.requests += 1
    file.flags.formUnion(request.flags)
    if request.flags.contains(.direct), request.kind == .read || request.kind == .write { file.directBits |= offset | length }
  }
}
