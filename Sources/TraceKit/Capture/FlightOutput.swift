import CTrace
import Glibc

/// A recording that stays in memory, and of which the last part is written when a trigger comes: one trace for each.
final class FlightOutput: RecordingSink {
  let path: String
  private let metadata: TraceMetadata
  private let options: TraceWriter.Options
  private let long: LongRecordingOptions
  private let lengthNanoseconds: Int64
  private let epochNanoseconds: UInt64
  private let names: PieceNames
  private let tally = LedgerTally()
  private let window: FlightWindow
  private let trigger = FlightTrigger()
  private let socket: FlightSocket?
  private let dumps = FlightDumps()
  private var nextNumber = 1
  private var signalsSeen = ctrace_signal_count()
  /// Conditions that look at events.
  private let conditions: [TriggerCondition]
  private var quietUntil = Int64.min
  private var passedOver: UInt64 = 0

  /// What ended just before a trigger needs this long to come out of the rings.
  private static let settleNanoseconds: UInt64 = 60_000_000

  init(
    path: String, metadata: TraceMetadata, options: TraceWriter.Options, long: LongRecordingOptions, epochNanoseconds: UInt64
  ) throws(TraceError) {
    self.path = path
    self.metadata = metadata
    self.options = options
    self.long = long
    self.epochNanoseconds = epochNanoseconds
    lengthNanoseconds = long.lastNanoseconds ?? 0
    conditions = long.triggers.filter { $0.subject != .end && $0.subject != .failure }
    names = PieceNames(path: path)
    try names.clear(overwrite: options.overwrite)
    try Self.checkFolder(of: path)
    window = FlightWindow(lengthNanoseconds: lengthNanoseconds, limitBytes: long.lastBytes, compressionLevel: options.compressionLevel)
    socket = FlightSocket(output: path, trigger: trigger)
    if let signal = long.triggerSignal { ctrace_count_signal(signal) }
  }

  /// A trigger is too late to find out that nothing can be written.
  private static func checkFolder(of path: String) throws(TraceError) {
    let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    guard access(folder, W_OK | X_OK) == 0 else { throw TraceError(path: folder, "make traces in it", errno: errno) }
  }

  // MARK: Events

  var isStopped: Bool { false }
  var storedBytes: UInt64 { window.bytes }
  func addFile(_ file: TraceFile) -> UInt32 { window.addFile(file) }
  func prepare(forStart start: Int64) -> Bool { window.renewNames(at: start) }
  func flush() { window.flush() }
  func advance(to watermark: Int64) -> Bool { false }

  func append(_ event: TraceEvent) {
    tally.count(event)
    window.append(event)
    for condition in conditions { look(at: event, condition) }
  }

  private func look(at event: TraceEvent, _ condition: TriggerCondition) {
    guard let reason = condition.reason(event) else { return }
    // What follows at once is in the same window, or would be written again and again.
    guard event.startNanoseconds > quietUntil else {
      passedOver += 1
      return
    }
    quietUntil = event.startNanoseconds &+ lengthNanoseconds
    let end = event.startNanoseconds &+ max(0, event.latencyIfKnown ?? 0)
    trigger.request(reason, endNanoseconds: UInt64(bitPattern: end) &+ epochNanoseconds)
  }

  func currentLedger() -> RecordingLedger {
    tally.ledger(route: metadata.source, costPerEventNanoseconds: metadata.costPerEventNanoseconds)
  }

  // MARK: Triggers

  func dueDump() -> UInt64? {
    let signals = ctrace_signal_count()
    if signals != signalsSeen {
      signalsSeen = signals
      trigger.request("SIGUSR1")
    }
    guard !dumps.isBusy else { return nil }
    return trigger.latestEnd(before: UInt64(ctrace_monotonic_ns()) &- Self.settleNanoseconds)
  }

  func dump() {
    let requests = trigger.take(before: UInt64(ctrace_monotonic_ns()) &- Self.settleNanoseconds)
    guard !requests.isEmpty, let dump = makeDump(requests) else { return }
    let (trigger, report) = (trigger, long.report)
    dumps.begin { dumps in
      let answer = dumps.write(dump)
      report(answer.text)
      trigger.finish(requests, answer)
    }
  }

  private func makeDump(_ requests: [FlightTrigger.Request]) -> FlightDump? {
    guard let end = requests.map(\.endNanoseconds).max() else { return nil }
    var reasons: [String] = []
    for request in requests where !reasons.contains(request.reason) && reasons.count < 4 { reasons.append(request.reason) }
    if let keep = long.keep { dumps.removeOldest(keeping: keep - 1, report: long.report) }
    var metadata = metadata
    metadata.trigger = reasons.joined(separator: "; ")
    let last = Int64(bitPattern: end &- epochNanoseconds)
    defer { nextNumber += 1 }
    return FlightDump(
      path: names.path(nextNumber), metadata: metadata, options: options, window: window.snapshot(),
      startNanoseconds: last &- lengthNanoseconds, endNanoseconds: last)
  }

  // MARK: The end

  func finish(
    ledger: RecordingLedger, programFailure: String?, change: (inout TraceMetadata) -> Void
  ) throws(TraceError) -> RecordingLedger {
    for condition in long.triggers {
      if condition.subject == .end { trigger.request("end: the recording ended") }
      if condition.subject == .failure, let programFailure { trigger.request("failure: the program \(programFailure)") }
    }
    dumps.waitUntilIdle()
    let requests = trigger.take(before: UInt64.max)
    if let dump = makeDump(requests) {
      let answer = dumps.write(dump)
      long.report(answer.text)
      trigger.finish(requests, answer)
    }
    socket?.close()
    return ledger
  }

  func result(ledger: RecordingLedger) -> RecordingOutput.Result {
    let sums = dumps.sums
    var result = RecordingOutput.Result(totals: sums.totals, sizeBytes: sums.sizeBytes, ledger: ledger)
    let count = dumps.count
    let length = DurationText.text(lengthNanoseconds)
    result.notes.append(
      count == 0
        ? "the last \(length) were in memory and no trigger came, so no trace was written"
        : "\(count == 1 ? "one trace" : "\(count) traces") of the last \(length) each")
    if dumps.failures > 0 { result.notes.append("\(dumps.failures) triggers came to nothing: the trace could not be written") }
    if dumps.removed > 0 { result.notes.append("removed by --keep \(long.keep ?? 0): \(dumps.removed) older traces") }
    if passedOver > 0 {
      result.notes.append("\(passedOver) more events met a condition within \(length) of one that had triggered")
    }
    return result
  }

  func discard() { socket?.close() }
}
