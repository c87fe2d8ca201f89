import CTrace

/// Everything that `trace-record info` shows of a trace.
public struct TraceInformation: Sendable {
  public let path: String
  public let sizeBytes: UInt64
  public let preamble: Preamble?
  public let metadata: TraceMetadata
  public let files: [TraceFile]
  /// What the end block says; nil for a trace that was not closed.
  public let closing: TraceTotals?
  public let damages: [TraceDamage]
  public let summary: TraceSummary
  private let isSorted: Bool

  /// Reads the whole trace at `path`.
  /// - Throws: when the file can't be read or is no trace; damage is reported in `damages` instead.
  public init(path: String) throws(TraceError) {
    let reader = try TraceReader(path: path)
    summary = try TraceSummary.scan(reader)
    self.path = path
    sizeBytes = reader.sizeBytes
    preamble = reader.preamble
    metadata = reader.metadata
    files = reader.files
    closing = reader.totals
    damages = reader.damages
    isSorted = reader.isSorted
  }

  /// A sentence for each thing that a reader of the trace should know first.
  public var warnings: [String] {
    var warnings = damages.map(\.description)
    if closing == nil { warnings.append("the trace was not closed: it has no end block") }
    return warnings.map { "\(PrintableText.escaped(path)): \($0)" }
  }

  /// `yes`, `no`, or why that is not known.
  public var lossless: String {
    guard let closing else { return "not closed" }
    if !damages.isEmpty { return "damaged" }
    return closing.lossless ? "yes" : "no"
  }

  private var duration: Int64 { summary.totals.durationNanoseconds }

  private func perSecond(_ count: UInt64) -> Double? { duration > 0 ? Double(count) / (Double(duration) / 1e9) : nil }
}

// MARK: - Text

extension TraceInformation {
  /// For people, with the `files` files that moved most bytes.
  public func text(files count: Int) -> String {
    var lines: [String] = []
    func field(_ name: String, _ value: String) { lines.append(name + String(repeating: " ", count: max(1, 12 - name.count)) + value) }
    field("trace", PrintableText.escaped(path))
    let format = preamble.map { "\($0.majorVersion).\($0.minorVersion)" } ?? "not known"
    let perEvent =
      summary.totals.events == 0 ? "" : ", \(Decimal.text(Double(sizeBytes) / Double(summary.totals.events), digits: 2)) bytes an event"
    field("format", "\(format), \(sizeBytes) bytes\(perEvent)")
    field("recorded", recorded)
    if let command = metadata.command { field("command", command.map { PrintableText.escaped($0) }.joined(separator: " ")) }
    if let host = metadata.host { field("host", Self.describe(host)) }
    if let options = metadata.options, !options.isEmpty { field("options", Self.pairs(options)) }
    if let cost = metadata.costPerEventNanoseconds {
      field("cost", "\(Decimal.text(cost, digits: 1)) ns an event, as measured on that host")
    }
    if let sample = metadata.sample { field("sample", sample.text) }
    if let piece = metadata.piece { field("piece", "\(piece)") }
    if let trigger = metadata.trigger { field("trigger", PrintableText.escaped(trigger)) }
    if metadata.anonymized == true { field("paths", "anonymized") }
    if let replayed = metadata.replayedDigest { field("replay of", PrintableText.escaped(replayed)) }
    if let summary = metadata.summary, !summary.isEmpty { field("notes", Self.pairs(summary)) }
    for (number, line) in ledgerLines.enumerated() { field(number == 0 ? "ledger" : "", line) }
    field("lossless", losslessText)
    field("digest", closing?.digest.hexadecimal ?? "\(summary.totals.digest.hexadecimal) (of what is readable)")
    field("span", spanText)
    let identified = summary.processes > 0 ? "\(summary.threads) threads of \(summary.processes) processes" : "threads not known"
    field("events", "\(summary.totals.events) on \(files.count) files, \(identified)\(isSorted ? "" : ", not sorted")")
    field("bytes", "\(ByteCount.text(summary.totals.bytesRead)) read, \(ByteCount.text(summary.totals.bytesWritten)) written")
    field("rates", ratesText)
    field("errors", errorsText)
    lines += operationsTable() + sizesTable() + filesTable(count) + gapsTable()
    return lines.map { $0 + "\n" }.joined()
  }

  private var recorded: String {
    var parts: [String] = []
    if let preamble { parts.append(Self.date(preamble.createdUnixNanoseconds)) }
    parts.append("by \(PrintableText.escaped(metadata.source))")
    if let tool = metadata.tool { parts.append("with \(PrintableText.escaped(tool))") }
    if let clock = metadata.clock { parts.append("clock \(PrintableText.escaped(clock))") }
    if let detail = metadata.sourceDetail { parts.append("(\(PrintableText.escaped(detail)))") }
    return parts.joined(separator: " ")
  }

  private var ledgerLines: [String] {
    if let ledger = metadata.ledger { return ledger.lines }
    guard Self.recorders.contains(metadata.source) else { return [] }
    return ["none: " + (closing == nil ? "the recording was cut short" : "the recorder wrote none")]
  }

  /// Sources whose traces end with a ledger.
  private static let recorders: Set<String> = ["preload", "syscalls", "block", "bpf"]

  private var losslessText: String {
    guard summary.totals.gaps > 0 else { return lossless }
    let lost = summary.totals.lostEvents.map { "\($0) events" } ?? "an unknown number of events"
    return "\(lossless); \(summary.totals.gaps) gaps, \(lost) lost"
  }

  private var spanText: String {
    guard summary.totals.events > 0 else { return "no events" }
    let first = summary.totals.firstTimeNanoseconds
    let date = metadata.epochUnixNanoseconds.map { ", first event \(Self.date($0 &+ first))" } ?? ""
    return "\(TimeText.seconds(duration)) s\(date)"
  }

  private var ratesText: String {
    guard let events = perSecond(summary.totals.events), let read = perSecond(summary.totals.bytesRead),
      let written = perSecond(summary.totals.bytesWritten)
    else { return "not known" }
    let bytes = { (rate: Double) in ByteCount.text(UInt64(min(rate, 1e18))) + "/s" }
    return "\(Decimal.text(events, digits: 1)) events/s, \(bytes(read)) read, \(bytes(written)) written;"
      + " at most \(summary.peakEventsPerSecond) events and \(ByteCount.text(summary.peakBytesPerSecond)) in one second"
  }

  private var errorsText: String {
    let kinds = summary.errors.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    guard !kinds.isEmpty else { return "none" }
    return kinds.prefix(8).map { "\($0.value) × \(String(cString: strerror($0.key)))" }.joined(separator: ", ")
  }

  private func operationsTable() -> [String] {
    var rows = [["operation", "count", "bytes", "errors", "p50", "p95", "p99", "p99.9", "max"]]
    for operation in summary.operations {
      let latencies = [0.5, 0.95, 0.99, 0.999, 1].map { q in operation.latency.quantile(q).map(DurationText.text) ?? "-" }
      rows.append([operation.operation.name, "\(operation.count)", "\(operation.bytes)", "\(operation.errors)"] + latencies)
    }
    return rows.count > 1 ? [""] + Self.table(rows) : []
  }

  private func sizesTable() -> [String] {
    var rows = [["size up to", "reads", "writes"]]
    for size in 0..<65 where summary.readSizes[size] + summary.writeSizes[size] > 0 {
      let bound = size < 64 ? ByteCount.text(1 << UInt64(size)) : "16 EiB"
      rows.append([bound, "\(summary.readSizes[size])", "\(summary.writeSizes[size])"])
    }
    return rows.count > 1 ? [""] + Self.table(rows) : []
  }

  private func filesTable(_ count: Int) -> [String] {
    let top = summary.topFiles(count)
    guard !top.isEmpty else { return [] }
    var rows = [["reads", "writes", "others", "read", "written", "file"]]
    for share in top {
      rows.append([
        "\(share.reads)", "\(share.writes)", "\(share.others)", ByteCount.text(share.bytesRead), ByteCount.text(share.bytesWritten),
        files[Int(share.file)].shownPath,
      ])
    }
    return [""] + Self.table(rows, leftColumns: [5])
  }

  private func gapsTable() -> [String] {
    guard !summary.gaps.isEmpty else { return [] }
    var lines = ["", "gaps (start in s, duration, events lost, cause)"]
    for gap in summary.gaps.prefix(20) {
      let start = TimeText.seconds(gap.startNanoseconds &- summary.totals.firstTimeNanoseconds)
      let duration = gap.durationNanoseconds.map(DurationText.text) ?? "?"
      lines.append("  \(start)  \(duration)  \(gap.lostEvents.map(String.init) ?? "?")  \(gap.cause.explanation)")
    }
    if summary.totals.gaps > 20 { lines.append("  … \(summary.totals.gaps - 20) more") }
    return lines
  }

  /// Columns two blanks apart; the first and `leftColumns` are set to the left, the others to the right.
  private static func table(_ rows: [[String]], leftColumns: Set<Int> = []) -> [String] {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      let cells = row.enumerated().map { column, cell in
        let padding = String(repeating: " ", count: widths[column] - cell.count)
        let left = leftColumns.contains(column) || (column == 0 && leftColumns.isEmpty)
        if left { return column == row.count - 1 ? cell : cell + padding }
        return padding + cell
      }
      return cells.joined(separator: "  ")
    }
  }

  private static func pairs(_ values: [String: String]) -> String {
    values.sorted { $0.key < $1.key }.map { "\(PrintableText.escaped($0.key))=\(PrintableText.escaped($0.value))" }.joined(separator: " ")
  }

  private static func describe(_ host: HostFacts) -> String {
    let memory = host.memoryBytes.map { ", \(ByteCount.text($0))" } ?? ""
    return PrintableText.escaped("\(host.hostName), \(host.kernel), \(host.architecture), \(host.cpuCount) CPUs\(memory)")
  }

  /// `2026-11-21 08:36:44 UTC`.
  static func date(_ unixNanoseconds: Int64) -> String {
    let total = unixNanoseconds >= 0 ? unixNanoseconds / 1_000_000_000 : (unixNanoseconds - 999_999_999) / 1_000_000_000
    var seconds = time_t(total)
    var parts = tm()
    guard gmtime_r(&seconds, &parts) != nil else { return "\(total) s since 1970" }
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    return
      "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
      + " \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) UTC"
  }
}

extension TraceFile {
  /// The path for people; `#` and the id for a row without a name.
  public var shownPath: String { path.isEmpty ? "#\(id)" : displayPath }
}

// MARK: - JSON

extension TraceInformation {
  /// The same with stable keys: times in nanoseconds, sizes in bytes, null for what is not known.
  public func json(files count: Int) -> JSONNode {
    let totals = summary.totals
    let known = totals.events > 0
    let what: [(String, JSONNode)] = [
      ("path", .text(PrintableText.escaped(path))), ("size_bytes", .unsigned(sizeBytes)),
      ("format_version", .text(preamble.map { "\($0.majorVersion).\($0.minorVersion)" })),
      ("created_unix_ns", .integer(preamble?.createdUnixNanoseconds)), ("metadata", metadataJSON),
    ]
    let state: [(String, JSONNode)] = [
      ("closed", .boolean(closing != nil)), ("lossless", .boolean(closing.map { $0.lossless && damages.isEmpty })),
      ("sorted", .boolean(isSorted)), ("digest", .text(closing?.digest.hexadecimal)),
      ("readable_digest", .text(totals.digest.hexadecimal)), ("damages", .array(damages.map { Self.damageJSON($0) })),
    ]
    let counts: [(String, JSONNode)] = [
      ("events", .unsigned(totals.events)), ("reads", .unsigned(totals.reads)), ("writes", .unsigned(totals.writes)),
      ("bytes_read", .unsigned(totals.bytesRead)), ("bytes_written", .unsigned(totals.bytesWritten)),
      ("errors", .unsigned(summary.errorCount)), ("file_count", .integer(Int64(files.count))),
      ("process_count", .integer(Int64(summary.processes))), ("thread_count", .integer(Int64(summary.threads))),
    ]
    let times: [(String, JSONNode)] = [
      ("first_start_ns", .integer(known ? totals.firstTimeNanoseconds : nil)),
      ("last_start_ns", .integer(known ? summary.lastStartNanoseconds : nil)), ("span_ns", .integer(duration)),
    ]
    let rates: [(String, JSONNode)] = [
      ("events_per_second", .number(perSecond(totals.events))), ("bytes_read_per_second", .number(perSecond(totals.bytesRead))),
      ("bytes_written_per_second", .number(perSecond(totals.bytesWritten))),
      ("peak_events_per_second", .unsigned(summary.peakEventsPerSecond)),
      ("peak_bytes_per_second", .unsigned(summary.peakBytesPerSecond)),
    ]
    let errnos = summary.errors.sorted { $0.key < $1.key }.map { errno, count -> JSONNode in
      .object([("errno", .integer(Int64(errno))), ("count", .unsigned(count))])
    }
    let tables: [(String, JSONNode)] = [
      ("latency", Self.latencyJSON(summary.latency)), ("operations", .array(summary.operations.map { Self.operationJSON($0) })),
      ("sizes", .array(sizesJSON)), ("errnos", .array(errnos)), ("files", .array(summary.topFiles(count).map { fileJSON($0) })),
      ("gap_count", .unsigned(totals.gaps)), ("lost_events", .unsigned(totals.lostEvents)),
      ("gaps", .array(summary.gaps.map { Self.gapJSON($0) })),
    ]
    return .object(what + state + counts + times + rates + tables)
  }

  private var metadataJSON: JSONNode {
    let hostNode: JSONNode = metadata.host.map { Self.hostJSON($0) } ?? .null
    let command: JSONNode = metadata.command.map { words in .array(words.map { .text($0) }) } ?? .null
    let origin: [(String, JSONNode)] = [
      ("source", .text(metadata.source)), ("source_detail", .text(metadata.sourceDetail)),
      ("epoch_unix_ns", .integer(metadata.epochUnixNanoseconds)),
      ("command", command), ("options", Self.table(metadata.options)),
      ("tool", .text(metadata.tool)), ("host", hostNode), ("clock", .text(metadata.clock)),
    ]
    let conditions: [(String, JSONNode)] = [
      ("cost_per_event_ns", .number(metadata.costPerEventNanoseconds)),
      ("compression_level", .integer(metadata.compressionLevel.map { Int64($0) })), ("anonymized", .boolean(metadata.anonymized)),
      ("replayed_digest", .text(metadata.replayedDigest)), ("summary", Self.table(metadata.summary)),
      ("sample", metadata.sample.map { Self.sampleJSON($0) } ?? .null), ("piece", .integer(metadata.piece.map { Int64($0) })),
      ("trigger", .text(metadata.trigger)),
      ("ledger", metadata.ledger?.json ?? .null),
    ]
    return .object(origin + conditions)
  }

  private static func sampleJSON(_ sample: SampleRule) -> JSONNode {
    .object([("unit", .text(sample.unit.rawValue)), ("one_in", .unsigned(sample.oneIn))])
  }

  private static func table(_ values: [String: String]?) -> JSONNode {
    guard let values else { return .null }
    var fields: [(String, JSONNode)] = []
    for (name, value) in values.sorted(by: { $0.key < $1.key }) { fields.append((name, .text(value))) }
    return .object(fields)
  }

  private static func hostJSON(_ host: HostFacts) -> JSONNode {
    let facts: [(String, JSONNode)] = [
      ("host_name", .text(host.hostName)), ("kernel", .text(host.kernel)), ("architecture", .text(host.architecture)),
      ("cpu_count", .integer(Int64(host.cpuCount))), ("cpu_model", .text(host.cpuModel)),
      ("memory_bytes", .unsigned(host.memoryBytes)), ("clock_source", .text(host.clockSource)),
    ]
    return .object(facts + [("devices", .array(host.devices.map { deviceJSON($0) }))])
  }

  private static func deviceJSON(_ device: HostFacts.Device) -> JSONNode {
    let facts: [(String, JSONNode)] = [
      ("name", .text(device.name)), ("size_bytes", .unsigned(device.sizeBytes)), ("rotational", .boolean(device.rotational)),
      ("scheduler", .text(device.scheduler)),
    ]
    return .object(facts)
  }

  /// Percentiles in nanoseconds.
  static func latencyJSON(_ latency: LatencyHistogram) -> JSONNode {
    let fields: [(String, JSONNode)] = [
      ("count", .unsigned(latency.count)), ("min_ns", .integer(latency.minimum)), ("mean_ns", .number(latency.mean)),
      ("p50_ns", .integer(latency.quantile(0.5))), ("p90_ns", .integer(latency.quantile(0.9))),
      ("p95_ns", .integer(latency.quantile(0.95))), ("p99_ns", .integer(latency.quantile(0.99))),
      ("p999_ns", .integer(latency.quantile(0.999))), ("max_ns", .integer(latency.maximum)),
    ]
    return .object(fields)
  }

  private static func operationJSON(_ operation: TraceSummary.Operation) -> JSONNode {
    .object([
      ("operation", .text(operation.operation.name)), ("count", .unsigned(operation.count)), ("bytes", .unsigned(operation.bytes)),
      ("errors", .unsigned(operation.errors)), ("latency", latencyJSON(operation.latency)),
    ])
  }

  private var sizesJSON: [JSONNode] {
    var rows: [JSONNode] = []
    for size in 0..<65 where summary.readSizes[size] + summary.writeSizes[size] > 0 {
      let bound: UInt64 = size < 64 ? 1 << UInt64(size) : UInt64.max
      let fields: [(String, JSONNode)] = [
        ("up_to_bytes", .unsigned(bound)), ("reads", .unsigned(summary.readSizes[size])),
        ("writes", .unsigned(summary.writeSizes[size])),
      ]
      rows.append(.object(fields))
    }
    return rows
  }

  private func fileJSON(_ share: TraceSummary.FileShare) -> JSONNode {
    let file = files[Int(share.file)]
    let fields: [(String, JSONNode)] = [
      ("id", .unsigned(UInt64(share.file))), ("path", .text(file.shownPath)), ("kind", .text(file.kind.name)),
      ("size_bytes", .unsigned(file.sizeBytes)), ("device", .unsigned(file.device)), ("inode", .unsigned(file.inode)),
      ("birth_time_unix_ns", .integer(file.birthTimeNanoseconds)), ("reads", .unsigned(share.reads)), ("writes", .unsigned(share.writes)),
      ("others", .unsigned(share.others)), ("bytes_read", .unsigned(share.bytesRead)), ("bytes_written", .unsigned(share.bytesWritten)),
    ]
    return .object(fields)
  }

  private static func gapJSON(_ gap: TraceSummary.Gap) -> JSONNode {
    let fields: [(String, JSONNode)] = [
      ("start_ns", .integer(gap.startNanoseconds)), ("duration_ns", .integer(gap.durationNanoseconds)),
      ("lost_events", .unsigned(gap.lostEvents)), ("cause", .text(gap.cause.explanation)),
      ("pid", .integer(gap.processID.map { Int64($0) })), ("tid", .integer(gap.threadID.map { Int64($0) })),
    ]
    return .object(fields)
  }

  static func damageJSON(_ damage: TraceDamage) -> JSONNode {
    let fields: [(String, JSONNode)] = [
      ("offset_bytes", .unsigned(damage.offsetBytes)), ("length_bytes", .unsigned(damage.lengthBytes)), ("reason", .text(damage.reason)),
      ("first_lost_event", .unsigned(damage.lostEvents?.lowerBound)),
      ("lost_events", .unsigned(damage.lostEvents.map { $0.upperBound - $0.lowerBound })),
      ("from_ns", .integer(damage.timeNanoseconds?.lowerBound)), ("to_ns", .integer(damage.timeNanoseconds?.upperBound)),
    ]
    return .object(fields)
  }
}
