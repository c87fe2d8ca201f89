extension ReportDiff {
  /// The comparison for people. `nameA` and `nameB` are shown as they are.
  public func text(nameA: String, nameB: String) -> String {
    var text = "A  \(PrintableText.escaped(nameA))\nB  \(PrintableText.escaped(nameB))\ntrace  \(digest ?? "not known")\n"
    if differences.isEmpty { text += "\nno difference in conditions\n" } else { text += "\ndifferences\n" + differenceTable() }
    text += "\n" + totalTable()
    text += "\n" + quantileTable()
    text += "\nB ÷ A − 1 with 95 % intervals within this pair only: they say nothing about run-to-run variation.\n"
    text += "Verdicts with a margin of \(Decimal.text(marginPercent, digits: marginPercent == marginPercent.rounded() ? 0 : 1)) %.\n"
    for veto in vetoes { text += "VETO: \(veto); no verdict counts\n" }
    return text
  }

  private func differenceTable() -> String {
    var table = TextTable()
    for difference in differences {
      table.add([PrintableText.escaped(difference.name), PrintableText.escaped(difference.a), PrintableText.escaped(difference.b)])
    }
    return table.render()
  }

  private func totalTable() -> String {
    var table = TextTable()
    table.add(["totals", "A", "B", "B/A"])
    for total in totals {
      table.add([
        total.name, Self.figure(total.name, total.a), Self.figure(total.name, total.b),
        total.ratio.map { Decimal.text($0, digits: 3) } ?? "—",
      ])
    }
    return table.render(indent: "")
  }

  private static func figure(_ name: String, _ value: Double) -> String {
    if name.hasPrefix("bytes") { return ByteCount.text(UInt64(max(0, value))) }
    if name.contains("_ns") { return DurationText.text(Int64(value)) }
    return Decimal.text(value, digits: 0)
  }

  private func quantileTable() -> String {
    var table = TextTable()
    table.add([latency, "A", "B", "B/A", "change", "95 % interval", "windows", "verdict"])
    for row in quantiles {
      var change = "—"
      var interval = "—"
      if let ratio = row.ratio { change = Self.percent(ratio - 1) }
      if let low = row.changeLow, let high = row.changeHigh { interval = "\(Self.percent(low)) … \(Self.percent(high))" }
      table.add([
        row.quantile.split(separator: "_").joined(separator: "."), row.aNanoseconds.map(DurationText.text) ?? "—",
        row.bNanoseconds.map(DurationText.text) ?? "—", row.ratio.map { Decimal.text($0, digits: 3) } ?? "—", change, interval,
        row.windows.map(String.init) ?? "—", vetoes.isEmpty ? row.verdict.rawValue : "vetoed",
      ])
    }
    return table.render(indent: "")
  }

  private static func percent(_ share: Double) -> String { (share > 0 ? "+" : "") + Decimal.text(share * 100, digits: 1) + " %" }
}
