import Glibc

/// Compares pairs of runs.
struct DiffAssembly {
  let a: [DiffRun]
  let b: [DiffRun]
  let options: DiffOptions
  let method: ReportDiff.Method
  /// There are lag and response on both sides.
  let isTimed: Bool

  init(a: [DiffRun], b: [DiffRun], options: DiffOptions) {
    self.a = a
    self.b = b
    self.options = options
    method = a.count > 1 ? .pairsOfRuns : .windowsOfOnePair
    isTimed = (a + b).allSatisfy { $0.isTimed && $0.source == .report }
  }

  var margin: Double { options.marginPercent / 100 }
  var primary: ReportDiff.LatencyKind { isTimed ? .response : .service }

  // MARK: Latencies

  func latencies() -> [ReportDiff.Latency] { (isTimed ? ReportDiff.LatencyKind.allCases : [.service]).map(latency) }

  private func latency(_ kind: ReportDiff.LatencyKind) -> ReportDiff.Latency {
    var (allA, allB) = (LatencyHistogram(), LatencyHistogram())
    for run in a { allA.merge(run.latencies[kind]) }
    for run in b { allB.merge(run.latencies[kind]) }
    let distance = DistributionShift.wasserstein(allA, allB)
    let windows = method == .windowsOfOnePair ? windowPairs(kind) : []
    let quantiles = LatencySummary.quantiles.map { key, q in
      quantile(key, q, a.map { $0.latencies[kind] }, b.map { $0.latencies[kind] }) {
        windows.isEmpty ? nil : WindowStatistics.estimate(windows, quantile: q)
      }
    }
    return ReportDiff.Latency(
      kind: kind, requestsA: a.map { $0.latencies[kind].count }.min() ?? 0, requestsB: b.map { $0.latencies[kind].count }.min() ?? 0,
      quantiles: quantiles, shift: DistributionShift.curve(allA, allB), wassersteinNanoseconds: distance,
      wassersteinShare: distance.flatMap { distance in allA.mean.flatMap { $0 > 0 ? distance / $0 : nil } })
  }

  /// Windows of the same requests of the one pair; empty when the two were divided differently.
  func windowPairs(_ kind: ReportDiff.LatencyKind) -> [WindowStatistics.Pair] {
    guard a[0].windows.map(\.firstRequest) == b[0].windows.map(\.firstRequest) else { return [] }
    return zip(a[0].windows, b[0].windows).map { WindowStatistics.Pair(a: $0.latencies[kind], b: $1.latencies[kind]) }
  }

  func operations() -> [ReportDiff.Operation] {
    var names: [String] = []
    for run in a + b { for operation in run.operations where !names.contains(operation.operation) { names.append(operation.operation) } }
    return names.map { name in
      func rows(_ runs: [DiffRun]) -> [DiffRun.Operation] {
        runs.map { $0.operations.first { $0.operation == name } ?? .init(operation: name, requests: 0, errors: 0, service: .init()) }
      }
      let (rowsA, rowsB) = (rows(a), rows(b))
      return ReportDiff.Operation(
        operation: name, requestsA: rowsA.reduce(0) { $0 &+ $1.requests }, requestsB: rowsB.reduce(0) { $0 &+ $1.requests },
        errorsA: rowsA.reduce(0) { $0 &+ $1.errors }, errorsB: rowsB.reduce(0) { $0 &+ $1.errors },
        quantiles: LatencySummary.quantiles.map { key, q in quantile(key, q, rowsA.map(\.service), rowsB.map(\.service)) { nil } })
    }
  }

  private func quantile(
    _ key: String, _ q: Double, _ a: [LatencyHistogram], _ b: [LatencyHistogram], onePair: () -> RatioEstimate?
  ) -> ReportDiff.Quantile {
    let (valuesA, valuesB) = (a.compactMap { $0.quantile(q) }, b.compactMap { $0.quantile(q) })
    let (meanA, meanB) = (Self.geometricMean(valuesA), Self.geometricMean(valuesB))
    var row = ReportDiff.Quantile(
      quantile: key, share: q, aNanoseconds: meanA.map { Int64(bounded: $0) }, bNanoseconds: meanB.map { Int64(bounded: $0) },
      ratio: nil, interval: nil, verdict: .insufficient, reason: nil)
    if let meanA, let meanB, meanA > 0 { row.ratio = meanB / meanA }
    let requests = (a + b).map(\.count).min() ?? 0
    // Below this number a run hardly has a sample beyond the quantile: 1 − q^n < 0.975.
    let needed = Int((log(0.025) / log(q)).rounded(.up))
    if requests < needed {
      row.reason = "needs \(needed) requests in each run, there are \(requests)"
    } else if valuesA.contains(where: { $0 <= 0 }) || valuesB.contains(where: { $0 <= 0 }) {
      row.reason = "it is 0 in a run, so there is no ratio"
    } else if method == .pairsOfRuns {
      let ratios = zip(valuesA, valuesB).map { log(Double($1) / Double($0)) }
      row.interval = RatioEstimate(ratios)?.interval(method)
    } else if let estimate = onePair() {
      row.interval = estimate.interval(method)
    } else {
      row.reason =
        "one pair of runs: needs at least \(WindowStatistics.minimumWindows) windows of \(Int((10 / (1 - q)).rounded(.up))) requests; several pairs of runs need none"
    }
    if let interval = row.interval { row.verdict = interval.verdict(margin: margin) }
    return row
  }

  private static func geometricMean(_ values: [Int64]) -> Double? {
    guard !values.isEmpty else { return nil }
    guard values.allSatisfy({ $0 > 0 }) else { return Double(values.reduce(0) { $0 &+ max(0, $1) }) / Double(values.count) }
    return values.count == 1 ? Double(values[0]) : exp(values.reduce(0) { $0 + log(Double($1)) } / Double(values.count))
  }

  // MARK: Totals

  private static let totalNames = [
    "requests", "iops", "bytes_per_second", "elapsed_ns", "bytes_read", "bytes_written", "cpu_ns_per_request", "errors", "short_transfers",
  ]
  /// The totals that are measurements, not counts of what was asked for.
  private static let measured: Set = ["iops", "bytes_per_second", "elapsed_ns", "cpu_ns_per_request"]

  func totals() -> [ReportDiff.Total] {
    Self.totalNames.map { name in
      func mean(_ runs: [DiffRun]) -> Double? {
        let values = runs.compactMap { $0.totals[name] }
        guard values.count == runs.count else { return nil }
        // Geometric, so that the ratio is the one that the interval is about.
        if Self.measured.contains(name), values.allSatisfy({ $0 > 0 }) { return LogMoments(values).geometricMean }
        return values.reduce(0, +) / Double(values.count)
      }
      var total = ReportDiff.Total(name: name, a: mean(a), b: mean(b), ratio: nil, interval: nil)
      if let valueA = total.a, let valueB = total.b, valueA > 0 { total.ratio = valueB / valueA }
      guard Self.measured.contains(name), method == .pairsOfRuns else { return total }
      let ratios = zip(a, b).compactMap { first, second -> Double? in
        guard let x = first.totals[name], let y = second.totals[name], x > 0, y > 0 else { return nil }
        return log(y / x)
      }
      if ratios.count == a.count { total.interval = RatioEstimate(ratios)?.interval(method) }
      return total
    }
  }

  // MARK: Steady state

  /// Trends that are both too strong for chance (1 %) and larger than the margin.
  func drifts() -> [ReportDiff.Drift] {
    var found: [ReportDiff.Drift] = []
    func look(_ what: String, _ values: [Double?]) {
      let values = values.compactMap { $0 }
      guard let trend = TrendTest.trend(values), trend.pValue < 0.01, abs(expm1(trend.change)) > max(margin, 0.02) else { return }
      found.append(
        ReportDiff.Drift(what: what, latency: primary, change: expm1(trend.change), pValue: trend.pValue, windows: trend.windows))
    }
    func logMedian(_ window: DiffRun.Window) -> Double? {
      window.latencies[primary].quantile(0.5).flatMap { $0 > 0 ? log(Double($0)) : nil }
    }
    for (side, runs) in [("A", a), ("B", b)] {
      for (i, run) in runs.enumerated() { look(runs.count > 1 ? "\(side)\(i + 1)" : side, run.windows.map(logMedian)) }
    }
    if method == .windowsOfOnePair, a[0].windows.map(\.firstRequest) == b[0].windows.map(\.firstRequest) {
      look("B/A", zip(a[0].windows, b[0].windows).map { x, y in logMedian(x).flatMap { x in logMedian(y).map { $0 - x } } })
    }
    return found
  }
}
