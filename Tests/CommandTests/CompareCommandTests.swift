import Foundation
import Testing
import TraceKit

/// `diff`, `compare` and `selftest` from outside: what they take, print and exit with.
@Suite struct CompareCommandTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func replay(_ arguments: String...) throws -> CommandResult { try replay(arguments) }
  private func replay(_ arguments: [String]) throws -> CommandResult {
    try run(traceReplay, arguments, in: folder.path, environment: ["TMPDIR": folder.path], timeoutSeconds: 300)
  }

  /// A trace of reads of one file.
  private func writeTrace(_ name: String = "t", count: Int = 6000) throws {
    let writer = try TraceWriter(path: folder / name, metadata: TraceMetadata(source: "generated"))
    let file = writer.addFile(TraceFile(path: Array("/data/file".utf8), kind: .regular))
    for i in 0..<count {
      try writer.append(
        TraceEvent(
          startNanoseconds: Int64(i) * 1000, operation: .read, file: file, offsetBytes: UInt64(i % 64) * 4096, sizeBytes: 4096,
          latencyNanoseconds: 20_000, result: 4096, processID: 1, threadID: 1))
    }
    try writer.finish()
  }

  /// Saves copies of a real report whose latencies are `factor` times as long, each copy a little differently.
  private func saveReports(_ name: String, count: Int, factor: Double, change: (inout ReplayReport) -> Void = { _ in }) throws {
    let base = try ReportFile.report(folder / "base.json")
    for i in 0..<count {
      var report = base
      let scale = factor * (1 + 0.004 * Double((i * 7) % 5 - 2))
      report.latency = Self.scaled(report.latency, scale)
      for window in report.windows.indices { report.windows[window].latency = Self.scaled(report.windows[window].latency, scale) }
      change(&report)
      try ReportFile.write(ReportFile.json(report), to: folder / "\(name)\(i).json", overwrite: true)
    }
  }

  private static func scaled(_ triple: LatencyTriple, _ factor: Double) -> LatencyTriple {
    func scaled(_ histogram: LatencyHistogram) -> LatencyHistogram {
      var result = LatencyHistogram()
      for (bucket, count) in histogram.filledBuckets {
        for _ in 0..<count { result.record(Int64(Double(LatencyHistogram.lowerBound(bucket)) * factor) + 20) }
      }
      return result
    }
    var set = LatencySet()
    set.service = scaled(triple.service.histogram)
    set.response = set.service
    return LatencyTriple(set)
  }

  private func makeBase() throws {
    try writeTrace()
    let made = try replay("run", "t", "--speed", "max", "--json", "base.json", "--log", "base.iotrace")
    try #require(made.status == 0, "\(made.stderr)")
  }

  @Test func exitStatusesTellRegressionIncomparabilityAndDoubtApart() throws {
    try makeBase()
    try saveReports("a", count: 5, factor: 1)
    try saveReports("b", count: 5, factor: 1.5)
    try saveReports("v", count: 5, factor: 1) { $0.run.errors = 3 }
    try saveReports("s", count: 5, factor: 1) { $0.run.speed = "2x" }
    func sets(_ a: String, _ b: String) -> [String] { (0..<5).map { "\(a)\($0).json" } + ["--"] + (0..<5).map { "\(b)\($0).json" } }
    let expectations: [([String], Int32, String)] = [
      (["--fail-on", "p50>5%"] + sets("a", "b"), 3, "regression: p50>5%"),
      (["--fail-on", "p50>5%", "--fail-on", "p90>400%"] + sets("a", "b"), 3, "regression: p50>5%"),
      (["--fail-on", "p50>400%"] + sets("a", "b"), 0, ""), (sets("a", "b"), 0, ""),
      (["--fail-on", "p50>5%"] + sets("b", "a"), 0, ""),
      (["--fail-on", "p99.99>5%"] + sets("a", "b"), 0, ""),
      (["--fail-on", "p99.99>5%", "--fail-inconclusive"] + sets("a", "b"), 5, "inconclusive: p99.99>5%"),
      (["--fail-on", "p50>5%"] + sets("a", "v"), 4, "3 failed requests"), (sets("a", "v"), 0, ""),
      (["--fail-on", "p50>5%", "--allow-different", "fidelity"] + sets("a", "v"), 0, ""),
      (sets("a", "s"), 4, "differ in speed"), (["--allow-different", "speed"] + sets("a", "s"), 0, ""),
      (["a0.json", "a1.json", "--", "b0.json"], 4, "2 runs of A and 1 of B"),
      (["a0.json", "a1.json", "b0.json"], 2, "-- separates"), (["a0.json"], 2, "two files"),
      (["a0.json", "--", "b0.json", "--margin", "3"], 2, "options stand before the --"),
      (["--warmup", "x", "a0.json", "b0.json"], 2, "--warmup"),
      (["--fail-on", "p50=3%", "a0.json", "b0.json"], 2, "--fail-on"), (["--margin", "nan", "a0.json", "b0.json"], 2, "--margin"),
      (["a0.json", "missing.json"], 1, "No such file"),
    ]
    for (arguments, status, message) in expectations {
      let result = try replay(["diff"] + arguments)
      #expect(result.status == status, "\(arguments): \(result.status) \(result.stderr)")
      #expect(message.isEmpty || result.stderr.contains(message), "\(arguments): \(result.stderr)")
      #expect(result.stdout.isEmpty == ([1, 2].contains(status) || (status == 4 && !arguments.contains("--fail-on"))), "\(arguments)")
    }
    let result = try replay(["diff", "--json", "-"] + sets("a", "b"))
    let diff = try JSONDecoder().decode(ReportDiff.self, from: Data(result.stdout.utf8))
    #expect(diff.method == .pairsOfRuns && diff.verdict == .regression && diff.a.runs.count == 5)
  }

  @Test func whatIsNoReportIsNamedWithItsReason() throws {
    try makeBase()
    let good = String(decoding: try Data(contentsOf: URL(fileURLWithPath: folder / "base.json")), as: UTF8.self)
    func replaced(_ pattern: String, _ replacement: String) -> String {
      good.replacingOccurrences(of: pattern, with: replacement, options: .regularExpression)
    }
    let cases: [(String, String)] = [
      ("", "empty"), ("   \n", "empty"), ("hello", "neither JSON nor a trace"), ("[1,2]", "not a report"), ("{}", "not a report"),
      (String(good.prefix(good.count / 2)), "cut off"), (replaced(#""iops":[0-9.]+"#, #""iops":NaN"#), "NaN"),
      (replaced(#""iops":[0-9.]+"#, #""iops":-Infinity"#), "NaN or infinite"),
      (#"{"schema":{"name":"trace-replay-diff","version":"2.0.0"}}"#, "'trace-replay-diff'"),
      (#"{"schema":{"name":"\u001b[31mx","version":"1.0.0"}}"#, #"'\x1b[31mx'"#),
      (replaced(#""version":"1[0-9.]*""#, #""version":"2.0.0""#), "schema version 2.0.0; this version reads"),
      (replaced(#""histogram":"#, #""hist":"#), "histogram' is missing"), (replaced(#""windows":"#, #""w":"#), "'windows' is missing"),
      (replaced(#""buckets":\[[0-9]+"#, #""buckets":[99999"#), "contradicts itself"),
      (replaced(#""partial":false"#, #""partial":7"#), "wrong type"),
      ("{" + String(repeating: #""a":{"#, count: 100_000) + String(repeating: "}", count: 100_001), "not valid JSON"),
    ]
    for (text, reason) in cases {
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder / "bad.json"))
      let result = try replay("diff", "base.json", "bad.json")
      #expect(result.status == 1 && result.stdout.isEmpty, "\(reason): \(result.status)")
      #expect(result.stderr.hasPrefix("trace-replay: bad.json: ") && result.stderr.contains(reason), "\(reason): \(result.stderr)")
      #expect(!result.stderr.contains("\u{1b}"))
    }
    try #require(try run("truncate", ["-s", "3G", folder / "bad.json"]).status == 0)
    let enormous = try replay("diff", "base.json", "bad.json")
    #expect(enormous.status == 1 && enormous.stderr.contains("too long for a report"))
    try writeTrace("other", count: 10)
    #expect(try replay("run", "other", "--speed", "max", "--json", "other.json").status == 0)
    let other = try replay("diff", "base.json", "other.json")
    #expect(other.status == 4 && other.stderr.contains("differ in trace"), "\(other.stderr)")
    #expect(try replay("diff", "base.json", ".").status == 1)
  }

  @Test func reportsLogsAndTheRecordingAreOperands() throws {
    try makeBase()
    let logs = try replay("diff", "base.iotrace", "base.iotrace")
    #expect(logs.status == 0 && logs.stdout.contains("request by request: 6000 pairs"), "\(logs.stderr)")
    #expect(logs.stdout.contains("verdict  equivalent"))
    let both = try replay("diff", "base.json", "base.iotrace", "--", "base.json", "base.iotrace")
    #expect(both.status == 0 && both.stdout.contains("6000 pairs"), "\(both.stderr)")
    let recording = try replay("diff", "t", "base.json")
    #expect(recording.status == 4 && recording.stderr.contains("speed (original against max)"), "\(recording.stderr)")
    let allowed = try replay("diff", "--allow-different", "speed", "t", "base.json")
    #expect(allowed.status == 0 && allowed.stdout.contains("(allowed)"), "\(allowed.stderr)")
  }

  @Test func aComparisonMakesItsRunsInOneFolderAndJudgesThem() throws {
    try writeTrace(count: 2000)
    let result = try replay(
      "compare", "t", "--engine", "null", "--engine", "sync", "--speed", "max", "--runs", "3", "--order-seed", "5", "--logs", "--json",
      "c.json")
    #expect(result.status == 0, "\(result.stderr)")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder / "t.compare").sorted()
    #expect(names == ["A", "B"].flatMap { side in (1...3).flatMap { ["\(side)-\($0).iotrace", "\(side)-\($0).json"] } })
    #expect(result.stdout.contains("A  null") && result.stdout.contains("(seed 5)") && result.stdout.contains("=== B against A ==="))
    #expect(result.stdout.contains("2000 pairs") && result.stdout.contains("over 3 pairs of runs"))
    #expect(result.stderr.contains("null: discarded run") && result.stderr.contains("sync: run 3 of 3"))
    let comparison = try JSONDecoder().decode(Comparison.self, from: Data(contentsOf: URL(fileURLWithPath: folder / "c.json")))
    // Three pairs beside other tests may leave it open how much slower it is, not in which direction.
    #expect(comparison.order.count == 3 && [.regression, .inconclusive].contains(comparison.diffs[0].verdict))
    // The kept reports give the same again.
    let again = try replay(
      ["diff", "--json", "-"] + (1...3).map { "t.compare/A-\($0).json" } + ["--"] + (1...3).map { "t.compare/B-\($0).json" })
    let diff = try JSONDecoder().decode(ReportDiff.self, from: Data(again.stdout.utf8))
    let same = diff.latencies == comparison.diffs[0].latencies
    #expect(same)
    let refused = try replay("compare", "t", "--engine", "null", "--engine", "sync", "--speed", "max")
    #expect(refused.status == 1 && refused.stderr.contains("t.compare: exists already") && refused.stderr.contains("--force"))
    let forced = try replay(
      "compare", "t", "--engine", "null", "--engine", "sync", "--speed", "max", "--runs", "12", "--force", "-q", "--fail-on", "p50>20%")
    #expect(forced.status == 3 && forced.stderr == "trace-replay: regression: p50>20%\n", "\(forced.stderr)")
    #expect(try replay("compare", "t", "--engine", "null").status == 2)
    #expect(try replay("compare", "t", "--engine", "null", "--engine", "null").status == 2)
    let unknown = try replay("compare", "t", "--engine", "null", "--engine", "warp", "-o", "w")
    #expect(unknown.status != 0 && !FileManager.default.fileExists(atPath: folder / "w"))
  }

  @Test func foldersAsTargetsGetScratchFilesThatAreGoneAfterwards() throws {
    try writeTrace(count: 500)
    for name in ["d1", "d2"] { try FileManager.default.createDirectory(atPath: folder / name, withIntermediateDirectories: true) }
    try folder.write("d1/mine", "kept")
    let result = try replay("compare", "t", "--target", "d1", "--target", "d2", "--speed", "max", "--runs", "2")
    #expect(result.status == 0 && result.stdout.contains("A  d1\nB  d2"), "\(result.stderr)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder / "d1") == ["mine"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder / "d2").isEmpty)
    #expect(result.stdout.contains("2 pairs of runs; with fewer than 5 the intervals are wide"))
  }

  @Test func aSelfTestSaysWhatCanBeFound() throws {
    try writeTrace(count: 4000)
    let result = try replay("selftest", "t", "--speed", "max", "--runs", "6", "--json", "s.json")
    #expect(result.status == 0, "\(result.stderr)")
    let found = try JSONDecoder().decode(SelfTest.self, from: Data(contentsOf: URL(fileURLWithPath: folder / "s.json")))
    // 15 matchings of six runs, and four orientations of their three pairs.
    #expect(found.runs == 6 && found.pairings == 60 && found.pairingsAreComplete && found.requests == 4000)
    let median = found.quantiles[0]
    #expect(median.falseAlarmsOverRuns != nil && median.falseAlarmsOfOnePair != nil)
    #expect(median.detectable.map(\.pairs) == [5, 10, 20, 40])
    #expect(zip(median.detectable, median.detectable.dropFirst()).allSatisfy { $0.change > $1.change && $1.change > 0 })
    #expect(found.quantiles[4].detectable.isEmpty)
    #expect(result.stdout.contains("detectable with") && result.stdout.contains("insufficient"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder / "t.selftest").count == 6)
    #expect(try replay("selftest", "t", "--runs", "5").status == 2)
  }

  @Test func anInterruptedComparisonKeepsWhatItHasAndExitsLikeAReplay() throws {
    try writeTrace(count: 2000)
    let started = try StartedCommand(
      traceReplay, ["compare", "t", "--engine", "null", "--engine", "sync", "--speed", "200/s", "--runs", "3"], in: folder.path,
      environment: ["TMPDIR": folder.path])
    usleep(1_500_000)
    kill(started.processID, SIGTERM)
    let result = started.wait(timeoutSeconds: 30)
    #expect(result.status == 143)
    #expect(result.stderr.contains("interrupted"), "\(result.stderr)")
  }
}
