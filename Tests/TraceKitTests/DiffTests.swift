import Foundation
import Testing

@testable import TraceKit

/// Runs made up for tests: log-normal latencies around 60 µs, in 30 windows.
struct MadeUpRuns {
  var random: SplitMix
  var requestsPerWindow = 400
  init(seed: UInt64) { random = SplitMix(seed: seed) }

  /// - Parameters:
  ///   - factor: how much slower the run is.
  ///   - growth: how much slower the last window is than the first, as a share.
  mutating func run(_ name: String, factor: Double = 1, growth: Double = 0, iops: Double = 1000) -> DiffRun {
    let windows = (0..<30).map { window -> DiffRun.Window in
      var set = LatencySet()
      let slow = factor * (1 + growth * Double(window) / 29)
      for _ in 0..<requestsPerWindow {
        let normal = (0..<12).reduce(-6.0) { sum, _ in sum + Double.random(in: 0..<1, using: &random) }
        set.service.record(Int64(60_000 * slow * exp(0.3 * normal)))
      }
      return DiffRun.Window(firstRequest: UInt64(window * requestsPerWindow), latencies: set)
    }
    var latencies = LatencySet()
    for window in windows { latencies.merge(window.latencies) }
    let count = latencies.service.count
    return DiffRun(
      name: name, source: .report, engine: "sync", createdUnixNanoseconds: 1, digest: "d", isTimed: false,
      conditions: [("trace", "d"), ("speed", "max"), ("engine", "sync")], conditionsAreComplete: true, latencies: latencies,
      windows: windows, operations: [.init(operation: "read", requests: count, errors: 0, service: latencies.service)],
      totals: ["requests": Double(count), "iops": iops, "errors": 0], vetoes: [])
  }

  mutating func runs(_ count: Int, factor: Double = 1, iops: Double = 1000) -> [DiffRun] {
    (0..<count).map { run("r\($0)", factor: factor, iops: iops * (1 + 0.001 * Double($0 % 3))) }
  }
}

@Suite struct DiffTests {
  private func diff(_ a: [DiffRun], _ b: [DiffRun], _ change: (inout DiffOptions) -> Void = { _ in }) throws -> ReportDiff {
    var options = DiffOptions()
    change(&options)
    return try ReportDiff(a, b, nameA: "a", nameB: "b", options: options)
  }

  private func gated(_ a: [DiffRun], _ b: [DiffRun], _ limits: String...) throws -> ReportDiff {
    let gates = try limits.map { try DiffGate($0) }
    return try diff(a, b) { $0.gates = gates }
  }

  @Test func severalPairsOfRunsGiveIntervalsOverRuns() throws {
    var made = MadeUpRuns(seed: 1)
    let result = try diff(made.runs(5), made.runs(5, factor: 1.1))
    #expect(result.method == .pairsOfRuns && result.pairs == 5)
    let median = try #require(result.primaryLatency?.quantiles.first)
    let interval = try #require(median.interval)
    #expect(interval.count == 5)
    #expect(interval.changeLow > 0.07 && interval.changeHigh < 0.13 && interval.changeLow < 0.1 && interval.changeHigh > 0.1)
    #expect(median.verdict == .regression && result.verdict == .regression)
    #expect(abs((median.ratio ?? 0) - exp(interval.meanLogRatio)) < 1e-3)
    #expect(result.operations.first?.quantiles.first?.interval?.count == 5)
    #expect(result.text.contains("over 5 pairs of runs"))
    #expect(try diff(made.runs(5), made.runs(5, factor: 1 / 1.1)).verdict == .improvement)
  }

  @Test func onePairIsLabelledAsSuch() throws {
    var made = MadeUpRuns(seed: 2)
    let result = try diff(made.runs(1), made.runs(1, factor: 1.1))
    #expect(result.method == .windowsOfOnePair)
    let interval = try #require(result.primaryLatency?.quantiles.first?.interval)
    #expect([30, 15, 10].contains(interval.count))
    #expect(result.text.contains("within this pair only: they say nothing about run-to-run variation"))
    #expect(result.totals.allSatisfy { $0.interval == nil })
    let same = made.runs(1)
    #expect(try diff(same, same).verdict == .equivalent)
  }

  @Test func tailsWithoutEnoughRequestsSayInsufficient() throws {
    var made = MadeUpRuns(seed: 3)
    made.requestsPerWindow = 100
    let quantiles = try #require(try diff(made.runs(3), made.runs(3)).primaryLatency?.quantiles)
    // 3000 requests: 1 − 0.99^3000 is nearly 1, 1 − 0.999^3000 is 0.95.
    #expect(quantiles.map { $0.interval != nil } == [true, true, true, false, false])
    #expect(quantiles[3].verdict == .insufficient)
    #expect(quantiles[3].reason?.contains("needs 3688 requests") == true)
    made.requestsPerWindow = 10
    let few = try #require(try diff(made.runs(1), made.runs(1)).primaryLatency?.quantiles)
    #expect(few[1].reason?.contains("windows") == true)
  }

  @Test func limitsFailHoldOrStayOpen() throws {
    var made = MadeUpRuns(seed: 4)
    let (a, b) = (made.runs(5), made.runs(5, factor: 1.1, iops: 900))
    let result = try gated(a, b, "p50>5%", "p50>10%", "p50>20%", "iops<-3%", "iops<-50%", "p99.99>1%", "cpu>1%", "lag.p50>1%")
    #expect(result.gates.map(\.result) == [.fails, .inconclusive, .holds, .fails, .holds, .insufficient, .insufficient, .insufficient])
    #expect(result.gates[0].metric == "service.p50" && result.gates[7].reason?.contains("no lag at maximum speed") == true)
    #expect(result.failure(failInconclusive: false)?.status == 3)
    #expect(try gated(a, b, "p50>20%").failure(failInconclusive: true) == nil)
    #expect(try gated(a, b, "p50>10%").failure(failInconclusive: false) == nil)
    #expect(try gated(a, b, "p50>10%").failure(failInconclusive: true)?.status == 5)
    // One pair has no interval for rates: that does not read as "holds".
    #expect(try gated([a[0]], [b[0]], "iops<-3%").gates[0].result == .insufficient)
  }

  @Test func oneLimitAmongManyFailsOnlyIfItSurvivesTheCorrection() throws {
    // Made so that p lies between 0.025 / 12 and 0.025: it fails alone, and not as one of twelve.
    let ratios = [0.08, 0.02, 0.05, 0.11, 0.04]
    let estimate = try #require(RatioEstimate(ratios))
    let p = estimate.pValue(above: true, limit: 0)
    #expect(p > 0.025 / 12 && p < 0.025)
    var made = MadeUpRuns(seed: 5)
    let a = made.runs(5, iops: 1)
    var b = a
    for i in a.indices { b[i].totals["iops"] = a[i].totals["iops"]! * exp(-ratios[i]) }
    #expect(try gated(a, b, "iops<0%").gates[0].result == .fails)
    let many = ["iops<0%"] + (0..<11).map { _ in "p50>5%" }
    let gates = try many.map { try DiffGate($0) }
    let corrected = try diff(a, b) { $0.gates = gates }.gates
    #expect(corrected[0].result == .inconclusive)
    #expect(try #require(corrected[0].adjustedPValue) > 0.025)
  }

  @Test func holmsCorrectionIsTheTextbooks() {
    let adjusted = Holm.adjusted([0.01, nil, 0.04, 0.03])
    let expected: [Double?] = [0.03, nil, 0.06, 0.06]
    for (found, wanted) in zip(adjusted, expected) {
      #expect((found == nil) == (wanted == nil))
      if let found, let wanted { #expect(abs(found - wanted) < 1e-12) }
    }
    #expect(Holm.adjusted([0.9, 0.8]).allSatisfy { $0! <= 1 })
  }

  @Test(arguments: ["p99", "p99>", "p99>5", "p77>5%", "speed>5%", "p99>x%", "p99>-100%", "p99>nan%", ">5%", "", "p99>5%%", "net.p99>1%"])
  func whatIsNoLimitIsRefusedWithAnExample(text: String) {
    #expect { try DiffGate(text) } throws: { "\($0)".contains("--fail-on") && "\($0)".contains("iops<-3%") }
  }

  @Test func limitsAreReadAsWritten() throws {
    let gate = try DiffGate(" service.p99.9 < -2.5 % ")
    #expect(gate.metric == .latency(.service, quantile: "p99_9") && !gate.failsAbove && gate.limit == -0.025)
    #expect(try DiffGate("bandwidth<-3%").metric == .total("bytes_per_second"))
  }

  @Test func unfaithfulRunsVetoAndNeverReadAsNoRegression() throws {
    var made = MadeUpRuns(seed: 6)
    let a = made.runs(2)
    var b = made.runs(2)
    b[1].vetoes = ["is degraded: 20 % late"]
    let result = try gated(a, b, "p50>5%")
    #expect(result.vetoes == ["B2 (r1) is degraded: 20 % late"])
    #expect(result.gates[0].result == .vetoed)
    #expect(result.failure(failInconclusive: false)?.status == 4)
    #expect(result.text.contains("none: vetoed") && result.text.contains("VETO"))
    let allowed = try diff(a, b) { $0.allow = ["fidelity"] }
    #expect(allowed.vetoes.isEmpty && allowed.notes.contains { $0.contains("compared all the same") })
  }

  @Test func conditionsAreComparedOverAllRunsOfBothSides() throws {
    var made = MadeUpRuns(seed: 7)
    let a = made.runs(2)
    var b = made.runs(2)
    b[1].conditions = [("trace", "d"), ("speed", "2x"), ("engine", "io_uring")]
    #expect { try diff(a, b) } throws: { "\($0)".contains("speed (max against max / 2x)") && "\($0)".contains("--allow-different speed") }
    let allowed = try diff(a, b) { $0.allow = ["speed"] }
    #expect(allowed.differences.first { $0.name == "speed" }?.isOverridden == true)
    #expect(allowed.differences.first { $0.name == "engine" }?.b == "sync / io_uring")
    #expect(throws: TraceError.self) { try diff(a, [b[0]]) }
  }

  @Test func aWarmupLeavesOutTheSameWindowsOfAllRuns() throws {
    var made = MadeUpRuns(seed: 8)
    var a = [made.run("a", growth: 0)]
    let b = made.runs(1)
    // The first five windows of A are ten times slower.
    for i in 0..<5 {
      var slow = MadeUpRuns(seed: UInt64(50 + i))
      a[0].windows[i].latencies = slow.run("x", factor: 10).windows[0].latencies
    }
    a[0].latencies = a[0].windows.reduce(into: LatencySet()) { $0.merge($1.latencies) }
    a[0].progress = [(1_000_000_000, 1000), (2_000_000_000, 2000), (3_000_000_000, 12_000)]
    for warmup in [DiffWarmup.requests(2000), .nanoseconds(2_000_000_000)] {
      let trimmed = try diff(a, b) { $0.warmup = warmup }
      #expect(trimmed.primaryLatency?.requestsA == 10_000 && trimmed.primaryLatency?.requestsB == 10_000)
      #expect(abs((trimmed.primaryLatency?.quantiles[2].ratio ?? 0) - 1) < 0.1)
      #expect(trimmed.notes.contains { $0.contains("first 5 of 30 windows") })
    }
    #expect(try diff(a, b).primaryLatency?.quantiles[2].ratio ?? 1 < 0.5)
    #expect(DiffWarmup("10s") == .nanoseconds(10_000_000_000) && DiffWarmup("500") == .requests(500))
    #expect(DiffWarmup("") == nil && DiffWarmup("1.5") == nil && DiffWarmup("-3") == nil)
  }

  @Test func driftIsReportedAndSteadinessIsNot() throws {
    var made = MadeUpRuns(seed: 9)
    let steady = try diff(made.runs(1), made.runs(1))
    #expect(steady.drifts.isEmpty)
    let drifting = try diff(made.runs(1), [made.run("b", growth: 0.3)])
    #expect(drifting.drifts.map(\.what) == ["B", "B/A"])
    #expect(abs(drifting.drifts[0].change - 0.3) < 0.08)
    #expect(drifting.text.contains("DRIFT"))
  }

  @Test func theDistanceOfTwoDistributionsIsTheirShift() throws {
    var (a, b) = (LatencyHistogram(), LatencyHistogram())
    for i in 0..<1000 {
      a.record(Int64(1000 + i))
      b.record(Int64(3000 + i))
    }
    #expect(abs(try #require(DistributionShift.wasserstein(a, b)) - 2000) < 20)
    #expect(DistributionShift.wasserstein(a, a) == 0)
    #expect(DistributionShift.wasserstein(a, LatencyHistogram()) == nil)
    let curve = DistributionShift.curve(a, b)
    #expect(curve.first?.percentile == 1 && curve.last?.percentile == 99)
    #expect(curve.allSatisfy { abs($0.bNanoseconds - $0.aNanoseconds - 2000) < 60 })
  }

  @Test func aDiffComesBackFromJSONWithNullsAndNoNaN() throws {
    var made = MadeUpRuns(seed: 10)
    var result = try gated(made.runs(1), made.runs(1), "p50>5%")
    result.totals[0].ratio = Double.nan
    let json = try ReportFile.json(result)
    let text = String(decoding: json, as: UTF8.self)
    #expect(text.contains(#""paired":null"#) && text.contains(#""ratio":null"#) && !text.lowercased().contains("nan"))
    let back = try JSONDecoder().decode(ReportDiff.self, from: Data(json))
    let same = try ReportFile.json(back) == json
    #expect(same)
  }

  /// Expected: SciPy's noncentral t distribution.
  @Test(arguments: [(5, 1.0, 0.40132), (10, 1.0, 0.80310), (20, 0.5, 0.56448), (40, 0.45, 0.79257), (2, 5.0, 0.42096)])
  func theChanceToFindADifferenceIsThatOfTheTest(pairs: Int, difference: Double, expected: Double) throws {
    #expect(abs(DetectableDifference.power(difference, deviation: 1, pairs: pairs) - expected) < 5e-4)
    let smallest = try #require(DetectableDifference.smallest(deviation: 0.1, pairs: pairs))
    #expect(abs(DetectableDifference.power(smallest, deviation: 0.1, pairs: pairs) - 0.8) < 1e-6)
  }
}

@Suite struct RunOrderTests {
  @Test(arguments: [2, 3, 4])
  func everyCandidateStandsInEveryPlaceEquallyOften(candidates: Int) {
    let rounds = RunOrder.rounds(candidates * 5, candidates: candidates, seed: 3)
    for place in 0..<candidates {
      for candidate in 0..<candidates { #expect(rounds.count { $0[place] == candidate } == 5) }
    }
    #expect(rounds.allSatisfy { Set($0).count == candidates })
    #expect(rounds == RunOrder.rounds(candidates * 5, candidates: candidates, seed: 3))
    #expect((0..<8).contains { RunOrder.rounds(candidates * 5, candidates: candidates, seed: $0) != rounds })
  }

  @Test func allWaysToPairRunsAreLookedAtOnce() {
    let four = RunPairings.all(4)
    #expect(four.ways.count == 6 && four.isComplete)
    let ten = RunPairings.all(10)
    #expect(ten.ways.count == 945 * 16 && ten.isComplete)
    let distinct = Set(ten.ways.map { way in Set(way.map { $0.a * 16 + $0.b }) }).count
    #expect(distinct == ten.ways.count)
    let many = RunPairings.all(40)
    #expect(many.ways.count == RunPairings.maximum && !many.isComplete)
    #expect(many.ways.allSatisfy { Set($0.flatMap { [$0.a, $0.b] }).count == 40 })
  }
}
