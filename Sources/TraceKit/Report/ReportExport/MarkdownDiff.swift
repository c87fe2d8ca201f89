/// A comparison in Markdown, for the discussion of a change.
struct MarkdownDiff {
  let diff: ReportDiff
  let units: UnitChoice

  var text: String {
    let look = DiffLook.of(diff.verdict)
    var text = "### Replay: \(MarkdownText.code(diff.a.name)) → \(MarkdownText.code(diff.b.name))\n\n"
    if diff.vetoes.isEmpty {
      text += "\(look.sign) **\(diff.verdict.rawValue)** (\(diff.primary.rawValue) latency, margin \(DiffPage.margin(diff.marginPercent)), "
      text += diff.method == .pairsOfRuns ? "\(diff.pairs) pairs of runs)\n\n" : "\(diff.method.label))\n\n"
    } else {
      text += "✕ **no verdict counts**: " + diff.vetoes.prefix(10).map(MarkdownText.code).joined(separator: ", ") + "\n\n"
    }
    if let primary = diff.primaryLatency { text += quantiles(primary) }
    text += "\n" + totals()
    if !diff.gates.isEmpty { text += "\n" + gates() }
    for latency in diff.latencies where latency.kind != diff.primary {
      text += "\n<details><summary>\(latency.kind.rawValue) latency</summary>\n\n\(quantiles(latency))\n</details>\n"
    }
    if let paired = diff.paired { text += MarkdownText.details("Request against request", self.paired(paired)) }
    if !diff.differences.isEmpty { text += MarkdownText.details("Differences of conditions", differences()) }
    for drift in diff.drifts { text += "\n▲ \(ReportDiff.sentence(drift))\n" }
    for note in diff.notes.prefix(20) { text += "\nNote: \(MarkdownText.code(note))\n" }
    return text
  }

  private func quantiles(_ latency: ReportDiff.Latency) -> String {
    MarkdownText.table(
      [latency.kind.rawValue, "A", "B", "change", "95 % interval", "verdict"],
      latency.quantiles.map { row in
        let look = DiffLook.of(row.verdict)
        return [
          row.name, row.aNanoseconds.map(DurationText.text) ?? "—", row.bNanoseconds.map(DurationText.text) ?? "—",
          (row.interval?.change ?? row.ratio.map { $0 - 1 }).map(RatioChart.percent) ?? "—", row.interval.map(ReportDiff.range) ?? "—",
          diff.vetoes.isEmpty ? "\(look.sign) \(row.verdict.rawValue)" : "vetoed",
        ]
      }, texts: [0, 5])
  }

  private func totals() -> String {
    MarkdownText.table(
      ["total", "A", "B", "B ÷ A"],
      diff.totals.map { total in
        [
          ReportDiff.totalNames[total.name] ?? MarkdownText.code(total.name), ReportDiff.figure(total.name, total.a),
          ReportDiff.figure(total.name, total.b), total.ratio.map { Decimal.text($0, digits: 3) } ?? "—",
        ]
      })
  }

  private func gates() -> String {
    MarkdownText.table(
      ["limit", "change", "95 % interval", "result"],
      diff.gates.map { gate in
        [
          MarkdownText.code(gate.expression), gate.interval.map { RatioChart.percent($0.change) } ?? "—",
          gate.interval.map(ReportDiff.range) ?? "—",
          "**\(gate.result.rawValue)**" + (gate.reason.map { ": \(MarkdownText.code($0))" } ?? ""),
        ]
      }, texts: [0, 3])
  }

  private func paired(_ paired: ReportDiff.Paired) -> String {
    let groups = MarkdownText.table(
      ["operation", "requests", "median change", "slower in B"],
      ([paired.all] + paired.byOperation).map {
        [
          MarkdownText.code($0.name), String($0.requests), RatioChart.percent($0.medianChange),
          Decimal.text($0.shareSlower * 100, digits: 1) + " %",
        ]
      })
    let worst = MarkdownText.table(
      ["operation", "file", "request", "offset", "A", "B"],
      paired.worst.prefix(10).map {
        [
          MarkdownText.code($0.operation), MarkdownText.code($0.file), String($0.request), $0.offsetBytes.map(String.init) ?? "—",
          DurationText.text($0.aNanoseconds), DurationText.text($0.bNanoseconds),
        ]
      }, texts: [0, 1])
    return groups + "\nRequests that lost most time:\n\n" + worst
  }

  private func differences() -> String {
    MarkdownText.table(
      ["condition", "A", "B"],
      diff.differences.prefix(60).map { [MarkdownText.code($0.name), MarkdownText.code($0.a), MarkdownText.code($0.b)] }, texts: [0, 1, 2])
  }
}

extension ReportDiff {
  /// The comparison in GitHub's Markdown.
  public func markdown(units: UnitChoice = UnitChoice()) -> String { MarkdownDiff(diff: self, units: units).text }
}
