import CTrace
import Glibc

/// Turns foreign traces into one trace.
public enum TraceImport {
  /// How to import.
  public struct Options: Sendable {
    /// The inputs' format, or nil to go by their content.
    public var format: String?
    /// Unit and meaning of `wait` in fio iologs of version 2.
    public var fioWait = FioWait.millisecondsSinceStart
    /// Recorder's name and version for the metadata.
    public var tool: String?
    public var writer = TraceWriter.Options()
    public init() {}
  }

  /// Events that are held back to be sorted; 72 bytes each, twice over.
  static let reorderEvents = 1 << 17

  /// Imports `inputs` (paths, or `-` for the standard input; also packed by gzip), merged by time, into a new trace at `output`. Memory is constant but for the table of files.
  /// - Throws: when an input can't be read or recognised, or the output can't be written; a line that is not understood is
  ///   counted in the report instead. What was written by then is removed.
  public static func run(inputs: [String], output: String, options: Options = Options()) throws(TraceError) -> ImportReport {
    var opened: [(file: ReadableFile, format: ImportFormat)] = []
    for path in inputs {
      if path != "-" { try OutputFile.refuseSame(output, as: path) }
      let file = try ImportInput.open(path)
      opened.append((file, try ImportFormat.detect(file, named: options.format)))
    }
    guard let format = opened.first?.format else { throw TraceError(.refused, "no input to import") }
    if let odd = opened.first(where: { $0.format.name != format.name }) {
      throw TraceError(
        .refused,
        "\(PrintableText.escaped(odd.file.path)): '\(odd.format.name)' among inputs of '\(format.name)'; import one format at a time")
    }
    let context = ImportContext(options: options)
    var readers: [any ImportReader] = []
    for input in opened { readers.append(try format.open(input.file, context)) }
    var metadata = TraceMetadata(source: "import")
    metadata.tool = options.tool
    metadata.command = inputs
    var writerOptions = options.writer
    writerOptions.keepsUnfinished = false
    let writer = try TraceWriter(path: output, metadata: metadata, options: writerOptions)
    var pump = ImportPump(writer: writer, context: context)
    do throws(TraceError) {
      try pump.run(readers)
      return try pump.finish(format: format, inputs: inputs)
    } catch {
      // Half an import can be had again, and would be taken for the whole.
      unlink(output)
      throw TraceError(error.kind, "\(error.message); the unfinished \(PrintableText.escaped(output)) was removed")
    }
  }
}

/// Merges the inputs by start and sorts what is out of order within a window.
private struct ImportPump: ~Copyable {
  private let writer: TraceWriter
  private let context: ImportContext
  private var window = ReorderWindow(capacity: TraceImport.reorderEvents)
  private var latest = Int64.min
  private var lastWritten = Int64.min
  private var first = Int64.max
  private var last = Int64.min
  private var outOfOrder: UInt64 = 0
  private var unsorted: UInt64 = 0

  init(writer: TraceWriter, context: ImportContext) {
    self.writer = writer
    self.context = context
  }

  mutating func run(_ readers: [any ImportReader]) throws(TraceError) {
    var events: [TraceEvent] = []
    if readers.count == 1 {
      while try readers[0].read(into: &events) {
        for event in events { try take(event) }
      }
      return
    }
    var heads: [Head] = []
    for reader in readers {
      let head = Head(reader)
      if try head.refill() { heads.append(head) }
    }
    while let best = heads.indices.min(by: { heads[$0].start < heads[$1].start }) {
      try take(heads[best].take())
      if try !heads[best].refill() { heads.remove(at: best) }
    }
  }

  /// An input's next event.
  private final class Head {
    private let reader: any ImportReader
    private var events: [TraceEvent] = []
    private var next = 0
    init(_ reader: any ImportReader) { self.reader = reader }
    var start: Int64 { events[next].startNanoseconds }
    func take() -> TraceEvent {
      next += 1
      return events[next - 1]
    }
    func refill() throws(TraceError) -> Bool {
      guard next == events.count else { return true }
      next = 0
      return try reader.read(into: &events)
    }
  }

  private mutating func take(_ event: TraceEvent) throws(TraceError) {
    let start = event.startNanoseconds
    if start < latest { outOfOrder += 1 } else { latest = start }
    if start < first { first = start }
    if start > last { last = start }
    window.append(event)
    if window.count >= 2 * TraceImport.reorderEvents { try drain(everything: false) }
  }

  private mutating func drain(everything: Bool) throws(TraceError) {
    try writeFiles()
    let writer = writer
    var previous = lastWritten
    var late: UInt64 = 0
    func write(_ event: TraceEvent) throws(TraceError) {
      if event.startNanoseconds < previous { late += 1 } else { previous = event.startNanoseconds }
      try writer.append(event)
    }
    if everything { try window.drainAll(write) } else { try window.drain(before: Int64.min, write) }
    lastWritten = previous
    unsorted += late
  }

  private func writeFiles() throws(TraceError) {
    for file in context.takeNewFiles() { _ = writer.addFile(file) }
  }

  mutating func finish(format: ImportFormat, inputs: [String]) throws(TraceError) -> ImportReport {
    try drain(everything: true)
    let context = context
    try writer.updateMetadata { metadata in
      metadata.epochUnixNanoseconds = context.epochUnixNanoseconds
      metadata.sourceDetail = ([format.name] + context.report.assumptions).joined(separator: "; ")
      metadata.summary = context.summary
    }
    let totals = try writer.finish(lossless: context.report.rejected == 0)
    var report = context.report
    report.format = format.name
    report.inputs = inputs
    report.requests = totals.events
    report.reads = totals.reads
    report.writes = totals.writes
    report.bytesRead = totals.bytesRead
    report.bytesWritten = totals.bytesWritten
    report.files = totals.files
    report.spanNanoseconds = totals.events == 0 ? 0 : last &- first
    report.outOfOrder = outOfOrder
    report.unsorted = unsorted
    report.traceBytes = writer.sizeBytes
    report.digest = totals.digest.hexadecimal
    return report
  }
}
