extension ExportFormat {
  /// fio's iolog, versions 2 and 3, such that `fio --read_iolog` accepts it (fio's iolog.c).
  static let fio = ExportFormat(
    name: "fio", summary: "fio iolog, version 3 or 2",
    write: { (reader, output, options, report) throws(TraceError) in
      var writer = FioLogWriter(reader, output, version: options.fioVersion)
      try writer.run(&report)
    })
}

/// Two passes: the first finds which files are used and until when, since fio wants each added and opened before its first
/// request; the second writes.
private struct FioLogWriter {
  /// fio reads names with a width of 256 and lengths of 32 bits; a longer request becomes several.
  private static let nameLimit = 256
  private static let pieceBytes: UInt64 = 1 << 30
  private static let renamedListed = 10

  private let reader: TraceReader
  private let output: OutputFile
  private let version: Int
  /// By file: number of requests that are yet to be written, and whether the file is open.
  private var pending: [UInt64]
  private var isOpen: [Bool]
  private var names: [[UInt8]?]
  /// The first row with the same path: a file that was deleted and made anew is one file to fio.
  private var row: [Int]
  private var taken: Set<[UInt8]> = []
  private var origin: Int64 = 0
  /// Last time written, in the version's unit.
  private var clock: UInt64 = 0

  init(_ reader: TraceReader, _ output: OutputFile, version: Int) {
    self.reader = reader
    self.output = output
    self.version = version
    pending = Array(repeating: 0, count: reader.files.count)
    isOpen = Array(repeating: false, count: reader.files.count)
    names = Array(repeating: nil, count: reader.files.count)
    row = Array(reader.files.indices)
    var rows: [[UInt8]: Int] = [:]
    for (number, file) in reader.files.enumerated() where !file.path.isEmpty {
      if let first = rows[file.path] { row[number] = first } else { rows[file.path] = number }
    }
  }

  mutating func run(_ report: inout ExportReport) throws(TraceError) {
    report.assumptions = [
      version == 3
        ? "fio iolog version 3: times in µs from 1 up, offsets and lengths in bytes"
        : "fio iolog version 2: 'wait' in milliseconds since the start, as fio's code reads it; finer times are lost",
      "each file is opened at its first request and closed after its last",
    ]
    origin = reader.firstTimeNanoseconds ?? 0
    try count(&report)
    try output.append("fio version \(version) iolog\n")
    report.lines += 1
    try forEachInOrder { (event, self) throws(TraceError) in
      guard let request = self.request(event) else { return }
      try self.write(request, of: event, &report)
    }
  }

  // MARK: Reading

  /// Gives `body` all events, sorted by start as far as the reorder window reaches.
  private mutating func forEachInOrder(_ body: (TraceEvent, inout Self) throws(TraceError) -> Void) throws(TraceError) {
    try reader.rewind()
    let batch = EventBatch(capacity: 1024)
    guard !reader.isSorted else {
      while try reader.next(into: batch) { for event in batch.buffer { try body(event, &self) } }
      return
    }
    var window = ReorderWindow(capacity: TraceImport.reorderEvents)
    while try reader.next(into: batch) {
      for event in batch.buffer { window.append(event) }
      if window.count >= 2 * TraceImport.reorderEvents {
        try window.drain(before: Int64.min) { (event) throws(TraceError) in try body(event, &self) }
      }
    }
    try window.drainAll { (event) throws(TraceError) in try body(event, &self) }
  }

  /// The first pass: requests per file, and everything that is lost.
  private mutating func count(_ report: inout ExportReport) throws(TraceError) {
    try reader.rewind()
    let batch = EventBatch(capacity: 1024)
    while try reader.next(into: batch) {
      for event in batch.buffer {
        if let request = request(event) {
          pending[row[Int(event.file)]] += 1
          if request.isShort { report.change("short transfers, written with the bytes that they moved") }
          if request.length > UInt64(UInt32.max) { report.change("requests over 32 bits, written in pieces of 1 GiB") }
          noteLostFields(event, &report)
        } else {
          report.lose(reason(event))
        }
      }
    }
    for file in pending.indices where pending[file] > 0 { chooseName(file, &report) }
  }

  private func noteLostFields(_ event: TraceEvent, _ report: inout ExportReport) {
    if event.latencyIfKnown != nil { report.lose("latencies") }
    if event.threadIfKnown != nil || event.processIfKnown != nil { report.lose("process and thread numbers") }
    if !event.flags.isEmpty { report.lose("flags of requests") }
  }

  // MARK: Requests

  private struct Request {
    var action: StaticString
    var length: UInt64
    var isShort = false
  }

  /// What fio is to do for an event; nil where it has no counterpart.
  private func request(_ event: TraceEvent) -> Request? {
    guard Int(event.file) < reader.files.count, Self.isReplayable(reader.files[Int(event.file)].kind) else { return nil }
    if let result = event.resultIfKnown, result < 0 { return nil }
    switch event.operation {
    case .fsync: return Request(action: "sync", length: 0)
    case .fdatasync: return Request(action: "datasync", length: 0)
    case .read, .write, .discard:
      guard let offset = event.offsetIfKnown, let size = event.sizeIfKnown, offset <= UInt64(Int64.max) else { return nil }
      let isTransfer = event.operation != .discard
      let length = isTransfer && event.resultIfKnown != nil ? min(size, event.transferredBytes) : size
      guard length > 0, length <= UInt64(Int64.max) - offset else { return nil }
      let action: StaticString = event.operation == .read ? "read" : event.operation == .write ? "write" : "trim"
      return Request(action: action, length: length, isShort: length < size)
    default: return nil
    }
  }

  /// fio opens what it replays on for reading and writing, and ends when it can't: an fsync of a directory is no request to it.
  private static func isReplayable(_ kind: TraceFile.Kind) -> Bool {
    switch kind {
    case .regular, .blockDevice, .characterDevice, .unknown: true
    case .directory, .pipe, .socket, .symbolicLink, .anonymous: false
    }
  }

  /// Why `request` has none for an event.
  private func reason(_ event: TraceEvent) -> String {
    switch event.operation {
    case .open, .close: return "open and close (see above)"
    case .gap: return "gaps"
    case .read, .write, .discard, .fsync, .fdatasync: break
    default: return "operations without a counterpart: \(event.operation.name)"
    }
    if event.fileIfKnown == nil || Int(event.file) >= reader.files.count { return "requests whose file is not known" }
    let kind = reader.files[Int(event.file)].kind
    if !Self.isReplayable(kind) { return "requests on what fio can't open: \(kind.name)" }
    if let result = event.resultIfKnown, result < 0 { return "failed requests and their errno" }
    if event.offsetIfKnown == nil { return "requests whose offset is not known" }
    if event.sizeIfKnown == nil { return "requests whose size is not known" }
    if event.transferredBytes == 0 { return "requests that moved nothing" }
    return "requests beyond 2^63 bytes"
  }

  // MARK: Writing

  private mutating func write(_ request: Request, of event: TraceEvent, _ report: inout ExportReport) throws(TraceError) {
    let file = row[Int(event.file)]
    try advance(to: event, file, &report)
    if !isOpen[file] {
      try line(file, "add", &report)
      try line(file, "open", &report)
      isOpen[file] = true
      report.files += 1
    }
    var offset = event.offsetIfKnown ?? 0
    var rest = request.length
    repeat {
      let piece = request.length > UInt64(UInt32.max) ? min(rest, Self.pieceBytes) : rest
      try line(
        file, request.action, &report, offset: event.operation == .fsync || event.operation == .fdatasync ? 0 : offset, length: piece)
      offset += piece
      rest -= piece
    } while rest > 0
    tally(event.operation, request.length, &report)
    pending[file] -= 1
    if pending[file] == 0 { try line(file, "close", &report) }
  }

  private func tally(_ operation: TraceOperation, _ length: UInt64, _ report: inout ExportReport) {
    switch operation {
    case .read:
      report.reads += 1
      report.bytesRead &+= length
    case .write:
      report.writes += 1
      report.bytesWritten &+= length
    default: report.others += 1
    }
  }

  /// Moves the clock; fio drops the gap behind a time of 0, so version 3 counts from 1.
  private mutating func advance(to event: TraceEvent, _ file: Int, _ report: inout ExportReport) throws(TraceError) {
    let (since, overflow) = event.startNanoseconds.subtractingReportingOverflow(origin)
    let nanoseconds = overflow ? UInt64(Int64.max) : UInt64(max(0, since))
    if version == 3 {
      clock = max(clock, nanoseconds / 1000 + 1)
      return
    }
    guard nanoseconds / 1_000_000 > clock else { return }
    clock = nanoseconds / 1_000_000
    // fio takes the file of a wait from the table, so it must be there; it wants four words.
    if !isOpen[file] {
      try line(file, "add", &report)
      try line(file, "open", &report)
      isOpen[file] = true
      report.files += 1
    }
    try line(file, "wait", &report, offset: clock, length: 0)
  }

  private func line(
    _ file: Int, _ action: StaticString, _ report: inout ExportReport, offset: UInt64? = nil, length: UInt64 = 0
  ) throws(TraceError) {
    if version == 3 {
      try output.append(decimal: clock)
      try output.append(0x20 as UInt8)
    }
    try output.append(names[file] ?? [])
    try output.append(0x20 as UInt8)
    try output.append(UnsafeBufferPointer(start: action.utf8Start, count: action.utf8CodeUnitCount))
    if let offset {
      try output.append(0x20 as UInt8)
      try output.append(decimal: offset)
      try output.append(0x20 as UInt8)
      try output.append(decimal: length)
    }
    try output.append(0x0A as UInt8)
    report.lines += 1
  }

  // MARK: Names

  /// fio's names have no blanks and at most 256 bytes; others are rewritten, and stay different from each other.
  private mutating func chooseName(_ file: Int, _ report: inout ExportReport) {
    let path = reader.files[file].path
    var name = path
    let isPlain = { (byte: UInt8) in byte > 0x20 && byte != 0x7F }
    if name.isEmpty { name = Array("file-\(file)".utf8) }
    if !name.allSatisfy(isPlain) { name = name.flatMap { isPlain($0) ? [$0] : Self.percent($0) } }
    if name.count > Self.nameLimit { name = Array(name.prefix(Self.nameLimit - 12)) + Array("~\(file)".utf8) }
    if taken.contains(name) { name = Array(name.prefix(Self.nameLimit - 12)) + Array("~\(file)".utf8) }
    taken.insert(name)
    names[file] = name
    guard name != path else { return }
    report.change("file names with blanks, without a name or over \(Self.nameLimit) bytes, rewritten")
    guard report.renamed.count < Self.renamedListed else { return }
    report.renamed.append((reader.files[file].shownPath, PrintableText.escaped(name)))
  }

  private static func percent(_ byte: UInt8) -> [UInt8] {
    let digits = Array("0123456789ABCDEF".utf8)
    return [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
  }
}
