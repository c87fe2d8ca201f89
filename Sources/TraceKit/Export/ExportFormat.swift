/// A foreign trace format that can be written. To add one: a file in this folder that defines it, and a line in `all`.
public struct ExportFormat: Sendable {
  /// What `--to` calls it.
  public var name: String
  /// One line for help texts.
  public var summary: String
  /// Writes all events of a trace, and says what was lost.
  var write:
    @Sendable (_ reader: TraceReader, _ output: OutputFile, _ options: TraceExport.Options, _ report: inout ExportReport)
      throws(TraceError) -> Void

  /// Every format, in the order of the help text.
  public static let all: [ExportFormat] = [fio]

  /// The format called `name`, or nil.
  public static func named(_ name: String) -> ExportFormat? { all.first { $0.name == name } }
}

/// Writes traces in foreign formats.
public enum TraceExport {
  /// How to export.
  public struct Options: Sendable {
    /// Version of fio's iolog, 2 or 3.
    public var fioVersion = 3
    /// Replace an existing file.
    public var overwrite = false
    public init() {}
  }

  /// Writes the trace at `trace` to `output` in the format called `format`. Memory does not depend on the number of events.
  /// - Throws: when the trace can't be read, the format is not known, or the output exists, is the trace or can't be written.
  public static func run(
    trace: String, format: String, output: String, options: Options = Options()
  ) throws(TraceError) -> ExportReport {
    guard let found = ExportFormat.named(format) else {
      let names = ExportFormat.all.map(\.name).joined(separator: ", ")
      throw TraceError(.unsupported, "no export format is called '\(PrintableText.escaped(format))'; there are \(names)")
    }
    try OutputFile.refuseSame(output, as: trace)
    let reader = try TraceReader(path: trace)
    var report = ExportReport()
    report.format = found.name
    let file = output == "-" ? OutputFile() : try OutputFile(path: output, overwrite: options.overwrite)
    try found.write(reader, file, options, &report)
    try file.flush()
    report.sizeBytes = file.sizeBytes
    report.warnings = reader.warnings
    return report
  }
}

/// What an export wrote, and what the format has no place for.
public struct ExportReport: Sendable {
  public var format = ""
  /// Units and other decisions, a sentence each.
  public var assumptions: [String] = []
  public var lines: UInt64 = 0
  public var reads: UInt64 = 0
  public var writes: UInt64 = 0
  public var others: UInt64 = 0
  public var bytesRead: UInt64 = 0
  public var bytesWritten: UInt64 = 0
  public var files: UInt64 = 0
  /// What is not in the export, by kind: how many events.
  public var lost: [String: UInt64] = [:]
  /// What was changed to fit, by kind: how many events or files.
  public var changed: [String: UInt64] = [:]
  /// The first file names that were changed.
  public var renamed: [(from: String, to: String)] = []
  public var sizeBytes: UInt64 = 0
  /// Damage of the trace.
  public var warnings: [String] = []

  public init() {}

  mutating func lose(_ kind: String) { lost[kind, default: 0] += 1 }
  mutating func change(_ kind: String) { changed[kind, default: 0] += 1 }
}

extension ExportReport {
  /// For people, lines ended by `\n`.
  public var text: String {
    var lines = ["format      \(format)"]
    for assumption in assumptions { lines.append("assumed     \(assumption)") }
    lines.append(
      "written     \(reads) reads (\(bytesRead) bytes), \(writes) writes (\(bytesWritten) bytes), \(others) others, \(files) files")
    lines.append("            \(self.lines) lines, \(sizeBytes) bytes")
    for (kind, count) in changed.sorted(by: { $0.key < $1.key }) { lines.append("changed     \(kind): \(count)") }
    for (from, to) in renamed { lines.append("            \(from) -> \(to)") }
    for (kind, count) in lost.sorted(by: { $0.key < $1.key }) { lines.append("lost        \(kind): \(count)") }
    if lost.isEmpty && changed.isEmpty { lines.append("lost        nothing") }
    return lines.map { $0 + "\n" }.joined()
  }

  /// The same with stable keys.
  public var json: JSONNode {
    let counts: [(String, JSONNode)] = [
      ("format", .text(format)), ("assumptions", .array(assumptions.map { .text($0) })), ("lines", .unsigned(lines)),
      ("reads", .unsigned(reads)), ("writes", .unsigned(writes)), ("others", .unsigned(others)), ("bytes_read", .unsigned(bytesRead)),
      ("bytes_written", .unsigned(bytesWritten)), ("files", .unsigned(files)), ("size_bytes", .unsigned(sizeBytes)),
    ]
    let losses: [(String, JSONNode)] = [
      ("lost", Self.table(lost)), ("changed", Self.table(changed)), ("warnings", .array(warnings.map { .text($0) })),
    ]
    return .object(counts + losses)
  }

  private static func table(_ counts: [String: UInt64]) -> JSONNode {
    var fields: [(String, JSONNode)] = []
    for (kind, count) in counts.sorted(by: { $0.key < $1.key }) { fields.append((kind, .unsigned(count))) }
    return .object(fields)
  }
}
