import Glibc

extension DiffAssembly {
  /// One-sided error of a claim: an interval of 95 % that lies beyond the limit.
  private static let level = 0.025

  /// The verdict over the quantiles of one latency together: one of them regressed or improved beyond the margin although several
  /// were looked at (Holm); equivalent when all that could be tested are.
  func verdict(_ latency: ReportDiff.Latency?) -> ReportDiff.Verdict {
    let tested = (latency?.quantiles ?? []).filter { $0.interval != nil }
    guard !tested.isEmpty else { return .insufficient }
    func isFound(above: Bool) -> Bool {
      let limit = above ? log1p(margin) : log1p(-min(margin, 0.999_999))
      let pValues = tested.map { $0.interval?.estimate.pValue(above: above, limit: limit) }
      return Holm.adjusted(pValues).contains { $0.map { $0 < Self.level } ?? false }
    }
    if isFound(above: true) { return .regression }
    if isFound(above: false) { return .improvement }
    return tested.allSatisfy { $0.verdict == .equivalent } ? .equivalent : .inconclusive
  }

  /// The limits, each held against the interval of its figure; p-values corrected for their number.
  func gates(_ latencies: [ReportDiff.Latency], _ totals: [ReportDiff.Total], isVetoed: Bool) -> [ReportDiff.Gate] {
    var rows = options.gates.map { row($0, latencies, totals) }
    let adjusted = Holm.adjusted(rows.map(\.pValue))
    for i in rows.indices {
      rows[i].adjustedPValue = adjusted[i]
      if isVetoed {
        rows[i].result = .vetoed
      } else if let interval = rows[i].interval, let adjusted = adjusted[i] {
        let (low, high) = rows[i].failsAbove ? (interval.changeLow, interval.changeHigh) : (interval.changeHigh, interval.changeLow)
        let holds = rows[i].failsAbove ? high <= rows[i].limit : high >= rows[i].limit
        let isBeyond = rows[i].failsAbove ? low > rows[i].limit : low < rows[i].limit
        rows[i].result = isBeyond && adjusted < Self.level ? .fails : holds ? .holds : .inconclusive
      }
    }
    return rows
  }

  private func row(_ gate: DiffGate, _ latencies: [ReportDiff.Latency], _ totals: [ReportDiff.Total]) -> ReportDiff.Gate {
    var row = ReportDiff.Gate(
      expression: gate.expression, metric: "", limit: gate.limit, failsAbove: gate.failsAbove, interval: nil, pValue: nil,
      adjustedPValue: nil, result: .insufficient, reason: nil)
    switch gate.metric {
    case .latency(let kind, let key):
      let kind = kind ?? primary
      let found = latencies.first { $0.kind == kind }?.quantiles.first { $0.quantile == key }
      row.metric = "\(kind.rawValue).\(found?.name ?? key)"
      row.interval = found?.interval
      row.reason = found == nil ? "no \(kind.rawValue) at maximum speed: requests are due at no time" : found?.reason
    case .total(let name):
      row.metric = name
      row.interval = totals.first { $0.name == name }?.interval
      if row.interval == nil { row.reason = "one pair of runs gives no interval for it; several pairs do" }
    }
    row.pValue = row.interval?.estimate.pValue(above: gate.failsAbove, limit: gate.logLimit)
    return row
  }
}
