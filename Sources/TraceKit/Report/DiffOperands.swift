/// What `diff` was given: files that are recognised by their content, and the runs in them.
public struct DiffOperands {
  /// The files of one side.
  private struct Side: Sendable {
    var reports: [(path: String, report: ReplayReport)] = []
    var traces: [MeasuredTrace] = []

    init(_ paths: [String]) throws(TraceError) {
      for path in paths {
        if try DiffOperands.isTrace(path) {
          traces.append(try MeasuredTrace(path: path))
        } else {
          reports.append((path, try ReportFile.report(path)))
        }
      }
    }

    var recordings: [MeasuredTrace] { traces.filter { !$0.isLog } }
    var runCount: Int { reports.isEmpty ? traces.count : reports.count }
    var reportRuns: [DiffRun] { reports.map { DiffRun($0.report, name: $0.path) } }

    /// The side's runs, of its reports where it has them. Reads each trace once, for them and for `requests`.
    func runs(_ windows: DiffRun.Windows, _ requests: RequestLatencies?) throws(TraceError) -> [DiffRun] {
      guard reports.isEmpty else {
        try requests?.add(traces)
        return reportRuns
      }
      var runs: [DiffRun] = []
      for trace in traces { runs.append(try DiffRun(trace, windows: windows, requests: requests)) }
      return runs
    }
  }

  private let a: Side
  private let b: Side
  private let nameA: String
  private let nameB: String

  /// Reads the reports, opens the traces.
  /// - Throws: what is wrong with the first file that can't be used.
  public init(_ pathsA: [String], _ pathsB: [String]) throws(TraceError) {
    a = try Side(pathsA)
    b = try Side(pathsB)
    nameA = Self.name(pathsA)
    nameB = Self.name(pathsB)
    for side in [a, b] where !side.recordings.isEmpty {
      guard side.traces.count == 1, side.reports.isEmpty else {
        throw TraceError(
          .refused,
          "\(PrintableText.escaped(side.recordings[0].path)): a recording stands alone on its side; it is one run, and no replay's log"
        )
      }
    }
    if let one = a.recordings.first, let other = b.recordings.first {
      throw TraceError(
        .refused,
        "\(PrintableText.escaped(one.path)) and \(PrintableText.escaped(other.path)) are both recordings; one side must be a replay ('trace-replay run' writes its report with --json and its log with --log)"
      )
    }
    guard a.runCount == b.runCount else {
      throw TraceError(.refused, "\(a.runCount) runs of A and \(b.runCount) of B: runs are compared in pairs, so there must be as many")
    }
  }

  /// Files of which nothing is claimed but their content; a report begins with a brace.
  private static func isTrace(_ path: String) throws(TraceError) -> Bool {
    try ReadableFile(path: path).bytes(TraceFormat.magic.count, at: 0).elementsEqual(TraceFormat.magic)
  }

  private static func name(_ paths: [String]) -> String {
    guard let first = paths.first, paths.count > 1 else { return paths.first ?? "" }
    return "\(first) and \(paths.count - 1) more"
  }

  /// The first report of each side, for pictures; nil for sides without one.
  public var firstReports: (a: ReplayReport?, b: ReplayReport?) { (a.reports.first?.report, b.reports.first?.report) }

  /// Compares the runs, and request with request where both sides have traces.
  /// - Throws: `.refused` when they are not comparable; when a trace can't be read.
  public func compare(_ options: DiffOptions) throws(TraceError) -> ReportDiff {
    if case .nanoseconds = options.warmup, a.reports.isEmpty, b.reports.isEmpty {
      throw TraceError(.refused, "--warmup: a duration needs a report among the files; for traces alone give a number of requests")
    }
    try checkLogs(a)
    try checkLogs(b)
    let isPaired = !a.traces.isEmpty && !b.traces.isEmpty
    guard isPaired, let index = try RequestIndex(a.traces[0]) else {
      let (runsA, runsB) = (try a.runs(windows(a, b, nil), nil), try b.runs(windows(b, a, nil), nil))
      return try ReportDiff(runsA, runsB, nameA: nameA, nameB: nameB, options: options)
    }
    return try comparePaired(index, options)
  }

  /// Reads the traces of both sides at once: memory is flat arrays, about 20 bytes per request of A.
  private func comparePaired(_ index: RequestIndex, _ options: DiffOptions) throws(TraceError) -> ReportDiff {
    let first = DiffRun.firstRequest(a.reportRuns + b.reportRuns, options.warmup)
    let (requestsA, requestsB) = (RequestLatencies(index, first: first), RequestLatencies(index, first: first))
    let (windowsA, windowsB) = (windows(a, b, index), windows(b, a, index))
    let (a, b) = (a, b)
    let (runsA, runsB) = try WorkerThread.both(
      { () throws(TraceError) in try a.runs(windowsA, requestsA) }, { () throws(TraceError) in try b.runs(windowsB, requestsB) })
    var diff = try ReportDiff(runsA, runsB, nameA: nameA, nameB: nameB, options: options)
    diff.paired = try PairedComparison(requestsA, requestsB, index: index, trace: a.traces[0]).result()
    return diff
  }

  private func windows(_ side: Side, _ other: Side, _ index: RequestIndex?) -> DiffRun.Windows {
    if let index, other.reports.isEmpty { return .byNumber(index) }
    if let report = other.reports.first?.report, !side.recordings.isEmpty, report.windows.count > 1 {
      return .byOrdinal(max(1, report.windows[1].firstRequest &- report.windows[0].firstRequest))
    }
    return .none
  }

  /// Logs next to reports must be of the same trace.
  private func checkLogs(_ side: Side) throws(TraceError) {
    guard let report = side.reports.first else { return }
    for trace in side.traces where trace.digest != report.report.trace.digest {
      throw TraceError(
        .refused,
        "not comparable: \(PrintableText.escaped(trace.path)) is no log of the trace that \(PrintableText.escaped(report.path)) reports on"
      )
    }
  }
}
