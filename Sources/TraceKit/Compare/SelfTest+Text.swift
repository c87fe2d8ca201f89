extension SelfTest {
  /// What was found, for people.
  public var text: String {
    var text = "trace    \(digest ?? "not known")\n"
    text += "runs     \(runs) of engine \(engine) at speed \(speed), \(requests) requests each, \(latency.rawValue) latency\n\n"
    text += falseAlarmTable()
    text +=
      "\nFalse alarms: nothing differed, so 5 % are to be expected. 'Over runs': the share of \(pairings) \(pairingsAreComplete ? "ways" : "random ways") to divide\nthe \(runs / 2 * 2) runs into \(runs / 2) pairs; they share their runs, so the figure itself is rough. 'One pair': each run against each other one,\nby their windows; more than 5 % means that runs differ from each other by more than a single pair can know.\n\n"
    text += detectableTable()
    text += "\nThe smallest change that is found in 80 % of comparisons with so many pairs of runs ('compare --runs').\n"
    if let drift = driftOverRuns {
      text +=
        "\nDRIFT: the median changes by \(ReportDiff.percent(drift)) from the first run to the last; this machine was not steady\n"
    }
    for veto in vetoes { text += "WARNING: \(veto)\n" }
    return text
  }

  private func name(_ row: Quantile) -> String { String(row.quantile.map { $0 == "_" ? "." : $0 }) }

  private func share(_ value: Double?) -> String { value.map { Decimal.text($0 * 100, digits: 1) + " %" } ?? "insufficient" }

  private func falseAlarmTable() -> String {
    var table = TextTable()
    table.add(["", "mean", "spread of runs", "false alarms over runs", "of one pair"])
    for row in quantiles {
      table.add([
        name(row), row.nanoseconds.map(DurationText.text) ?? "—", row.spread.map { "±" + share($0) } ?? "—", share(row.falseAlarmsOverRuns),
        share(row.falseAlarmsOfOnePair),
      ])
    }
    return table.render(indent: "")
  }

  private func detectableTable() -> String {
    var table = TextTable()
    table.add(["detectable with"] + Self.pairCounts.map { "\($0) pairs" })
    for row in quantiles where !row.detectable.isEmpty {
      table.add([name(row)] + row.detectable.map { ReportDiff.percent($0.change) })
    }
    return table.render(indent: "")
  }
}
