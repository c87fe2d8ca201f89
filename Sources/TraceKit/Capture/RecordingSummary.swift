/// What a recording amounts to, for people. The trace's ledger has the figures.
public struct RecordingSummary: Sendable {
  public var output: String
  public var totals: TraceTotals
  public var traceBytes: UInt64
  public var processes: Int
  public var ledger: RecordingLedger
  /// Processes that the program left running.
  public var stillRunning = 0
  /// Why the trace ends early, when it does.
  public var failure: TraceError?
  /// The option that helps against a cause of loss, by route.
  public var remedies: [GapCause: String] = [:]

  /// What else the user should know: pieces, limits.
  public var notes: [String]

  init(output: String, result: RecordingOutput.Result, processes: Int, failure: TraceError?) {
    self.output = output
    totals = result.totals
    traceBytes = result.sizeBytes
    ledger = result.ledger
    notes = result.notes
    self.processes = processes
    self.failure = failure
  }

  /// Nothing that the recorder could see is missing.
  public var isLossless: Bool { ledger.losses.isEmpty && failure == nil }

  /// The lines that a command prints at its end.
  public var lines: [String] {
    var lines: [String] = []
    let each = totals.events == 0 ? "" : ", \(Decimal.text(Double(traceBytes) / Double(totals.events), digits: 2)) bytes per event"
    lines.append("\(PrintableText.escaped(output)): \(totals.events) events, \(ByteCount.text(traceBytes))\(each)")
    lines.append(
      "  \(totals.reads) reads of \(ByteCount.text(totals.bytesRead)), \(totals.writes) writes of \(ByteCount.text(totals.bytesWritten)), "
        + "\(count(Int(totals.files), "file")), \(processes == 1 ? "1 process" : "\(processes) processes"), "
        + count(Int(totals.threads), "thread"))
    lines += (notes + ledger.lines).map { "  \($0)" }
    for cause in GapCause.allCases where ledger.losses.contains(where: { $0.cause == cause.name }) {
      if let remedy = remedies[cause] { lines.append("  against '\(cause.explanation)': \(remedy)") }
    }
    if stillRunning > 0 {
      lines.append(
        "  \(stillRunning) processes that the program started still run; from here on they are not recorded (--wait-all waits for them)")
    }
    return lines
  }

  private func count(_ number: Int, _ thing: String) -> String { "\(number) \(thing)\(number == 1 ? "" : "s")" }
}
