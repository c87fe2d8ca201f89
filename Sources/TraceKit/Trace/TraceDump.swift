import CTrace

/// Writes a trace's events as text, one a line.
public struct TraceDump {
  /// How events are shown.
  public enum Style: Sendable {
    /// For people: times in seconds since the first event, `?` for what is not known.
    case text
    /// RFC 4180 with the columns of `columns`; what is not known is an empty field.
    case csv
  }

  /// The columns of the CSV. `start_ns` counts from the trace's epoch, `result` is −errno for a call that failed.
  public static let columns = "start_ns,latency_ns,operation,file,offset,size,result,pid,tid,flags"

  private let reader: TraceReader
  private let style: Style
  private let from: Int64
  private let to: Int64
  private let origin: Int64
  /// Paths as they are printed, filled as they occur; bounded by the file table.
  private var names: [[UInt8]?]

  /// - Parameters:
  ///   - fromNanoseconds: Events that start earlier are left out; relative to the trace's first event, nil for all.
  ///   - toNanoseconds: Events that start then or later are left out.
  public init(_ reader: TraceReader, style: Style, fromNanoseconds: Int64? = nil, toNanoseconds: Int64? = nil) {
    self.reader = reader
    self.style = style
    origin = reader.firstTimeNanoseconds ?? 0
    from = fromNanoseconds.map { Self.saturatingSum(reader.firstTimeNanoseconds ?? 0, $0) } ?? Int64.min
    to = toNanoseconds.map { Self.saturatingSum(reader.firstTimeNanoseconds ?? 0, $0) } ?? Int64.max
    names = Array(repeating: nil, count: reader.files.count)
  }

  private static func saturatingSum(_ a: Int64, _ b: Int64) -> Int64 {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? (b < 0 ? Int64.min : Int64.max) : sum
  }

  /// Writes the chosen events to `output`, which is flushed. Memory is constant.
  public mutating func write(to output: OutputFile) throws(TraceError) {
    if style == .csv { try output.append(Self.columns + "\r\n") }
    if from == Int64.min { try reader.rewind() } else { try reader.seek(toTime: from) }
    let sorted = reader.isSorted
    let batch = EventBatch(capacity: 1024)
    reading: while try reader.next(into: batch) {
      for event in batch.buffer {
        if event.startNanoseconds >= to, to != Int64.max {
          if sorted { break reading }
          continue
        }
        if event.startNanoseconds < from { continue }
        switch style {
        case .csv: try writeCSV(event, output)
        case .text: try writeText(event, output)
        }
      }
    }
    try output.flush()
  }

  // MARK: CSV

  private mutating func writeCSV(_ event: TraceEvent, _ output: OutputFile) throws(TraceError) {
    let comma = UInt8(ascii: ",")
    try output.append(decimal: event.startNanoseconds)
    try output.append(comma)
    if let latency = event.latencyIfKnown { try output.append(decimal: latency) }
    try output.append(comma)
    try output.append(event.operation.name)
    try output.append(comma)
    if let file = event.fileIfKnown { try output.append(name(file)) }
    try output.append(comma)
    if let offset = event.offsetIfKnown { try output.append(decimal: offset) }
    try output.append(comma)
    if let size = event.sizeIfKnown { try output.append(decimal: size) }
    try output.append(comma)
    if let result = event.resultIfKnown { try output.append(decimal: result) }
    try output.append(comma)
    if let process = event.processIfKnown { try output.append(decimal: Int64(process)) }
    try output.append(comma)
    if let thread = event.threadIfKnown { try output.append(decimal: Int64(thread)) }
    try output.append(comma)
    if !event.flags.isEmpty { try output.append(event.flags.description) }
    try output.append("\r\n")
  }

  /// The printed name of a file: its path, `#` and the number for a row without one.
  private mutating func name(_ file: UInt32) -> [UInt8] {
    guard Int(file) < names.count else { return Array("#\(file)".utf8) }
    if let known = names[Int(file)] { return known }
    let shown = Array(reader.files[Int(file)].shownPath.utf8)
    let printed = style == .csv ? Self.quoted(shown) : shown
    names[Int(file)] = printed
    return printed
  }

  /// In double quotes, inner ones doubled, when a field needs it (RFC 4180, section 2).
  static func quoted(_ field: [UInt8]) -> [UInt8] {
    guard field.contains(where: { $0 == 0x2C || $0 == 0x22 || $0 == 0x0A || $0 == 0x0D }) else { return field }
    return [0x22] + field.flatMap { $0 == 0x22 ? [0x22, 0x22] : [$0] } + [0x22]
  }

  // MARK: Text

  private mutating func writeText(_ event: TraceEvent, _ output: OutputFile) throws(TraceError) {
    let (since, overflow) = event.startNanoseconds.subtractingReportingOverflow(origin)
    try padded(overflow ? "\(event.startNanoseconds) ns" : TimeText.seconds(since), 16, output)
    let ids = "\(event.processIfKnown.map(String.init) ?? "?")/\(event.threadIfKnown.map(String.init) ?? "?")"
    try output.append("  ")
    try output.append(ids + String(repeating: " ", count: max(0, 15 - ids.utf8.count)))
    try output.append(" ")
    if event.operation == .gap { return try writeGap(event, output) }
    try output.append(event.operation.name)
    try output.append("(")
    if let file = event.fileIfKnown { try output.append(name(file)) } else { try output.append("?") }
    if let other = event.otherFileIfKnown {
      try output.append(" -> ")
      try output.append(name(other))
    }
    if let offset = event.offsetIfKnown {
      try output.append(", offset ")
      try output.append(decimal: offset)
    }
    if let size = event.sizeIfKnown {
      try output.append(", size ")
      try output.append(decimal: size)
    }
    try output.append(") = ")
    try writeResult(event, output)
    if let latency = event.latencyIfKnown { try output.append(" <\(DurationText.text(latency))>") }
    if !event.flags.isEmpty { try output.append(" " + event.flags.description) }
    if let request = event.requestIfKnown { try output.append(" request \(request)") }
    try output.append("\n")
  }

  private func writeResult(_ event: TraceEvent, _ output: OutputFile) throws(TraceError) {
    guard let result = event.resultIfKnown else { return try output.append("?") }
    try output.append(decimal: result)
    if result < 0, result >= -4095 { try output.append(" (\(String(cString: strerror(Int32(-result)))))") }
  }

  private func writeGap(_ event: TraceEvent, _ output: OutputFile) throws(TraceError) {
    let lost = event.sizeIfKnown.map { "\($0) events" } ?? "an unknown number of events"
    let cause = (GapCause(rawValue: event.result) ?? .unknown).explanation
    let duration = event.latencyIfKnown.map { " within \(DurationText.text($0))" } ?? ""
    try output.append("gap: \(lost) lost\(duration) (\(cause))\n")
  }

  private func padded(_ text: String, _ width: Int, _ output: OutputFile) throws(TraceError) {
    try output.append(String(repeating: " ", count: max(0, width - text.utf8.count)) + text)
  }
}
