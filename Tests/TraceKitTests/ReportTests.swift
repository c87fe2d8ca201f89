import Foundation
import Testing

@testable import TraceKit

@Suite struct HistogramTests {
  @Test func quantilesAreWithinOnePercentOfTheSortedValues() {
    var random = SplitMix(seed: 9)
    for scale in [10.0, 1e3, 1e6, 1e9] {
      var histogram = LatencyHistogram()
      var values: [Int64] = []
      for _ in 0..<20_000 {
        let value = Int64(scale * exp(Double.random(in: -2...2, using: &random)))
        values.append(value)
        histogram.record(value)
      }
      values.sort()
      for q in [0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1] {
        let exact = Double(values[min(values.count - 1, max(0, Int((q * Double(values.count)).rounded(.up)) - 1))])
        let found = Double(histogram.quantile(q)!)
        #expect(abs(found - exact) <= max(1, exact * 0.01), "q \(q) at scale \(scale)")
      }
      #expect(histogram.minimum == values.first && histogram.maximum == values.last)
    }
  }

  @Test func mergingInAnyOrderGivesTheSame() {
    var random = SplitMix(seed: 10)
    var parts = (0..<5).map { _ in LatencyHistogram() }
    var whole = LatencyHistogram()
    for i in 0..<5000 {
      let value = Int64.random(in: -5...Int64(1) << Int64.random(in: 3...50, using: &random), using: &random)
      parts[i % 5].record(value)
      whole.record(value)
    }
    var forward = LatencyHistogram()
    var backward = LatencyHistogram()
    for part in parts { forward.merge(part) }
    for part in parts.reversed() { backward.merge(part) }
    let same = forward == whole && backward == whole
    #expect(same)
  }

  @Test func bucketsCoverTheirValues() {
    for value in [0, 1, 127, 128, 129, 255, 256, 1_000_000, (1 << 43) + 5] as [Int64] {
      let bucket = LatencyHistogram.bucket(value)
      #expect(LatencyHistogram.lowerBound(bucket) <= value)
      #expect(bucket == LatencyHistogram.bucketCount - 1 || LatencyHistogram.lowerBound(bucket + 1) > value)
    }
    #expect(LatencyHistogram.bucket(1 << 60) == LatencyHistogram.bucketCount - 1)
  }
}

@Suite struct StatisticsTests {
  @Test(arguments: [(4, 2.776), (9, 2.262), (29, 2.045), (1, 12.706), (100, 1.984)])
  func studentsTHasItsTabledQuantiles(degrees: Int, expected: Double) {
    #expect(abs(StudentT.twoSided(confidence: 0.95, degreesOfFreedom: degrees) - expected) < 0.001)
  }

  private func windows(_ count: Int, requests: Int, factor: Double, seed: UInt64) -> [LatencyHistogram] {
    var random = SplitMix(seed: seed)
    return (0..<count).map { _ in
      var histogram = LatencyHistogram()
      for _ in 0..<requests {
        let normal = (0..<12).reduce(-6.0) { sum, _ in sum + Double.random(in: 0..<1, using: &random) }
        histogram.record(Int64(60_000 * factor * exp(0.5 * normal)))
      }
      return histogram
    }
  }

  @Test func aTenPercentSlowdownIsFoundAndNoneIsNotInvented() throws {
    let a = windows(30, requests: 2000, factor: 1, seed: 1)
    let slow = windows(30, requests: 2000, factor: 1.1, seed: 2)
    let same = windows(30, requests: 2000, factor: 1, seed: 3)
    func interval(_ b: [LatencyHistogram]) throws -> RatioEstimate {
      try #require(WindowStatistics.estimate(zip(a, b).map { WindowStatistics.Pair(a: $0, b: $1) }, quantile: 0.5))
    }
    let found = try interval(slow)
    #expect(found.mean - found.halfWidth > 0.05 && found.mean + found.halfWidth < 0.15)
    let none = try interval(same)
    #expect(abs(none.mean) < 0.02)
  }

  @Test func tooFewRequestsGiveNoInterval() {
    let few = windows(30, requests: 50, factor: 1, seed: 4)
    let pairs = zip(few, few).map { WindowStatistics.Pair(a: $0, b: $1) }
    #expect(WindowStatistics.estimate(pairs, quantile: 0.99) == nil)
    #expect(WindowStatistics.estimate(Array(pairs.prefix(5)), quantile: 0.5) == nil)
  }

  @Test func intervalsCoverTheTruthAboutAsOftenAsTheySay() throws {
    // 400 pairs of identical runs with independent windows: a 95 % interval misses 0 in about 5 % of them.
    var misses = 0
    for seed in 0..<400 {
      let a = windows(30, requests: 40, factor: 1, seed: UInt64(1000 + 2 * seed))
      let b = windows(30, requests: 40, factor: 1, seed: UInt64(1001 + 2 * seed))
      let interval = try #require(WindowStatistics.estimate(zip(a, b).map { WindowStatistics.Pair(a: $0, b: $1) }, quantile: 0.5))
      if abs(interval.mean) > interval.halfWidth { misses += 1 }
    }
    #expect(misses >= 6 && misses <= 36, "\(misses) of 400")
  }
}

@Suite struct ReportFileTests {
  let folder = Folder()

  private func report(_ change: (inout ReplayOptions) -> Void = { _ in }) throws -> ReplayReport {
    let trace = try makeTrace(
      folder("trace"), files: [regular("/evil\u{1b}[31m\n<b>")], events: (0..<3000).map { access(.read, 0, 0, 512, at: Int64($0) * 100) })
    var options = ReplayOptions()
    options.speed = .maximum
    options.engine = "null"
    change(&options)
    return try Replayer(tracePath: trace, options: options).run()
  }

  @Test func aReportComesBackFromJSON() throws {
    let original = try report()
    try ReportFile.write(ReportFile.json(original), to: folder("r.json"), overwrite: false)
    let back = try ReportFile.report(folder("r.json"))
    #expect(back.text == original.text)
    let same = try ReportFile.json(back) == ReportFile.json(original)
    #expect(same)
    #expect(!original.text.contains("\u{1b}"))
    #expect(throws: TraceError.self) { try ReportFile.write([], to: folder("r.json"), overwrite: false) }
  }

  @Test func jsonHasTheStableKeysAndNoNaN() throws {
    let bytes = try ReportFile.json(report())
    let object = try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
    func value(_ path: String) -> Any? {
      path.split(separator: ".").reduce(object as Any?) { current, key in (current as? [String: Any])?[String(key)] }
    }
    for path in [
      "schema.name", "schema.version", "trace.digest", "trace.requests", "trace.bytes_read", "trace.bytes_written", "trace.duration_ns",
      "trace.lossless", "run.engine", "run.speed", "run.order", "run.iodepth", "run.elapsed_ns", "run.requests", "run.iops",
      "run.bytes_read",
      "run.bytes_written", "run.errors", "run.short_transfers", "run.partial", "latency.lag.count", "latency.service.min_ns",
      "latency.service.mean_ns", "latency.service.p50_ns", "latency.service.p90_ns", "latency.service.p99_ns", "latency.service.p99_9_ns",
      "latency.service.p99_99_ns", "latency.service.max_ns", "latency.response.histogram", "operations", "windows", "fidelity.verdict",
      "fidelity.reasons", "fidelity.lag_budget_ns", "fidelity.late_share", "fidelity.order_inversions", "fidelity.interarrival_error",
      "host",
      "options",
    ] { #expect(value(path) != nil, "\(path)") }
    #expect(value("fidelity.late_share") is NSNull)
    #expect(!String(decoding: bytes, as: UTF8.self).contains("nan"))
  }

  @Test func bucketArraysAreReadAheadAndNothingElseIsTouched() throws {
    let text = #"{"a":"\"buckets\":[1]","buckets":[ 12 , 3,18446744073709551615 ],"b":{"buckets" : []},"c":["buckets",[7]]}"#
    let arrays = try #require(BucketArrays(Array(text.utf8)))
    #expect(arrays.arrays == [[12, 3, UInt64.max], []])
    #expect(
      String(decoding: arrays.shortened, as: UTF8.self)
        == #"{"a":"\"buckets\":[1]","buckets":[0],"b":{"buckets" : [1]},"c":["buckets",[7]]}"#)
    for broken in ["[1,]", "[,1]", "[1 2]", "[-1]", "[1.5]", "[01]", "[18446744073709551616]", "[1", "[\"1\"]", "[null]"] {
      #expect(BucketArrays(Array(#"{"buckets":\#(broken)}"#.utf8)) == nil, "\(broken)")
    }
  }

  @Test func whatIsNoReportIsRefusedWithItsReason() throws {
    func reason(_ text: String) throws -> String {
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder("bad.json")))
      do {
        _ = try ReportFile.report(folder("bad.json"))
        return ""
      } catch { return error.message }
    }
    #expect(try reason("").contains("empty"))
    #expect(try reason("[1,2]").contains("not a report"))
    #expect(try reason(#"{"schema":{"name":"other","version":"1.0.0"}}"#).contains("'other'"))
    #expect(try reason(#"{"schema":{"name":"trace-replay-report","version":"2.0.0"}}"#).contains("schema version 2.0.0"))
    #expect(try reason(#"{"schema":{"name":"trace-replay-report","version":"1.0.0"}}"#).contains("missing"))
    var good = String(decoding: try ReportFile.json(report()), as: UTF8.self)
    good = good.replacingOccurrences(of: #""buckets":["#, with: #""buckets":[99999,1,"#)
    #expect(try reason(good).contains("contradicts"))
  }

  @Test func onlyReportsOfTheSameTraceAreCompared() throws {
    let a = try report()
    var b = a
    let same = try ReportDiff(a, b)
    #expect(same.primaryLatency?.quantiles.first?.verdict == .equivalent)
    #expect(same.primaryLatency?.quantiles.first?.ratio == 1)
    #expect(same.text.contains("equivalent"))
    b.trace.digest = "other"
    #expect(throws: TraceError.self) { try ReportDiff(a, b) }
    #expect(try ReportDiff(a, b, allow: ["trace"]).differences.contains { $0.name == "trace" })
    b = a
    b.run.partial = true
    #expect(try ReportDiff(a, b).vetoes == ["B is partial"])
  }
}
