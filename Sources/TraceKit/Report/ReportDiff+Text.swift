extension ReportDiff {
  /// The comparison for people.
  public var text: String {
    var text = headline()
    text += differences.isEmpty ? "\nno difference in conditions\n" : "\ndifferences\n" + differenceTable()
    text += "\n" + totalTable()
    for latency in latencies { text += "\n" + quantileTable(latency) }
    text += "\n" + explanation()
    if operations.count > 1 { text += "\n" + operationTable() }
    if paired != nil { text += "\n" + pairedText }
    if !gates.isEmpty { text += "\n" + gateTable() }
    if !drifts.isEmpty || !notes.isEmpty || !vetoes.isEmpty { text += "\n" }
    for drift in drifts { text += "DRIFT: " + Self.sentence(drift) + "\n" }
    for note in notes { text += "note: \(note)\n" }
    for veto in vetoes { text += "VETO: \(veto); no verdict counts\n" }
    return text
  }

  private func headline() -> String {
    func side(_ letter: String, _ side: Side) -> String {
      var line = "\(letter)  \(side.name)"
      if pairs > 1 { line += "  (\(pairs) runs)" }
      return line + "\n"
    }
    return side("A", a) + side("B", b) + "trace    \(digest ?? "not known")\n"
      + "verdict  \(vetoes.isEmpty ? verdict.rawValue : "none: vetoed") (\(primary.rawValue) latency, B against A)\n"
  }

  private func differenceTable() -> String {
    var table = TextTable()
    for difference in differences {
      table.add([difference.name, difference.a, difference.b + (difference.isOverridden ? "  (allowed)" : "")])
    }
    return table.render()
  }

  private func totalTable() -> String {
    let hasIntervals = totals.contains { $0.interval != nil }
    var table = TextTable()
    table.add(["totals", "A", "B", "B/A"] + (hasIntervals ? ["change", "95 % interval"] : []))
    for total in totals {
      var cells = [
        Self.totalNames[total.name] ?? total.name, Self.figure(total.name, total.a), Self.figure(total.name, total.b),
        total.ratio.map { Decimal.text($0, digits: 3) } ?? "—",
      ]
      if let interval = total.interval { cells += [Self.percent(interval.change), Self.range(interval)] }
      table.add(cells)
    }
    return table.render(indent: "")
  }

  /// Totals for people, by key.
  static let totalNames = [
    "iops": "requests/s", "bytes_per_second": "bytes/s", "elapsed_ns": "elapsed", "bytes_read": "bytes read",
    "bytes_written": "bytes written", "cpu_ns_per_request": "CPU per request", "short_transfers": "short transfers",
  ]

  static func figure(_ name: String, _ value: Double?) -> String {
    guard let value else { return "—" }
    if name.hasPrefix("bytes") { return ByteCount.text(UInt64(max(0, min(value, 9e18)))) }
    if name.contains("_ns") { return DurationText.text(Int64(bounded: value)) }
    return Decimal.text(value, digits: 0)
  }

  private func quantileTable(_ latency: Latency) -> String {
    var table = TextTable()
    let unit = method == .pairsOfRuns ? "pairs" : "windows"
    table.add([latency.kind.rawValue, "A", "B", "B/A", "change", "95 % interval", unit, "verdict"])
    for row in latency.quantiles {
      table.add([
        row.name, row.aNanoseconds.map(DurationText.text) ?? "—", row.bNanoseconds.map(DurationText.text) ?? "—",
        row.ratio.map { Decimal.text($0, digits: 3) } ?? "—",
        row.interval.map { Self.percent($0.change) } ?? row.ratio.map { Self.percent($0 - 1) } ?? "—", row.interval.map(Self.range) ?? "—",
        row.interval.map { String($0.count) } ?? "—", vetoes.isEmpty ? row.verdict.rawValue : "vetoed",
      ])
    }
    var text = table.render(indent: "")
    if let distance = latency.wassersteinNanoseconds, let share = latency.wassersteinShare {
      text +=
        "mean distance of the distributions \(DurationText.text(Int64(bounded: distance))), \(Decimal.text(share * 100, digits: 1)) % of A's mean\n"
    }
    return text
  }

  private func explanation() -> String {
    let margin = Decimal.text(marginPercent, digits: marginPercent == marginPercent.rounded() ? 0 : 1)
    var text = "Change is B ÷ A − 1 with 95 % intervals "
    switch method {
    case .pairsOfRuns: text += "over \(pairs) pairs of runs.\n"
    case .windowsOfOnePair: text += "within this pair only: they say nothing about run-to-run variation.\n"
    }
    text += "Verdicts with a margin of \(margin) %.\n"
    if latencies.contains(where: { $0.quantiles.contains { $0.interval?.isCorrelated ?? false } }) {
      text += "Neighbouring windows are still correlated: the intervals are too narrow. Several pairs of runs ('compare') are better.\n"
    }
    return text
  }

  private func operationTable() -> String {
    var table = TextTable()
    table.add(["operation", "requests A", "requests B", "errors A", "errors B", "p50 A", "p50 B", "B/A", "p99 A", "p99 B", "B/A"])
    for operation in operations {
      var cells = [
        operation.operation, String(operation.requestsA), String(operation.requestsB), String(operation.errorsA), String(operation.errorsB),
      ]
      for key in ["p50", "p99"] {
        let row = operation.quantiles.first { $0.quantile == key }
        cells += [
          row?.aNanoseconds.map(DurationText.text) ?? "—", row?.bNanoseconds.map(DurationText.text) ?? "—",
          row?.ratio.map { Decimal.text($0, digits: 3) } ?? "—",
        ]
      }
      table.add(cells)
    }
    return table.render(indent: "")
  }

  private func gateTable() -> String {
    var table = TextTable()
    table.add(["gate", "metric", "change", "95 % interval", "p", "p by Holm", "result"])
    for gate in gates {
      table.add([
        gate.expression, gate.metric, gate.interval.map { Self.percent($0.change) } ?? "—", gate.interval.map(Self.range) ?? "—",
        gate.pValue.map { Decimal.text($0, digits: 4) } ?? "—", gate.adjustedPValue.map { Decimal.text($0, digits: 4) } ?? "—",
        gate.result.rawValue,
      ])
    }
    return table.render(indent: "") + gates.compactMap { gate in gate.reason.map { "\(gate.expression): \($0)\n" } }.joined()
  }

  static func sentence(_ drift: Drift) -> String {
    let cause =
      drift.what == "B/A"
      ? "the difference was not steady"
      : "not steady, unless the requests themselves change over the trace; --warmup leaves out the beginning"
    return
      "\(drift.latency.rawValue) p50 of \(drift.what) changes by \(percent(drift.change)) from the first to the last of \(drift.windows) windows (p = \(Decimal.text(drift.pValue, digits: 4))): \(cause)"
  }

  static func percent(_ share: Double) -> String { (share > 0 ? "+" : "") + Decimal.text(share * 100, digits: 1) + " %" }
  static func range(_ interval: Interval) -> String { "\(percent(interval.changeLow)) … \(percent(interval.changeHigh))" }
}
