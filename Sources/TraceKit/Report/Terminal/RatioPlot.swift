import Glibc

/// Changes with their intervals, drawn with characters around 0.
struct RatioPlot {
  let diff: ReportDiff
  let style: TerminalStyle

  /// A line for each quantile of the latency that decides; empty where nothing is known.
  var text: String {
    let rows = (diff.primaryLatency?.quantiles ?? []).compactMap { quantile in
      (quantile.interval?.change ?? quantile.ratio.map { $0 - 1 }).map { (quantile, $0) }
    }
    guard !rows.isEmpty else { return "" }
    let margin = diff.marginPercent / 100
    let values = rows.flatMap { [$0.1, $0.0.interval?.changeLow, $0.0.interval?.changeHigh].compactMap { $0 } }
    let reach = max(values.map { max($0 + 1, 1 / max(1e-6, $0 + 1)) }.max() ?? 1, 1 + 2.5 * margin, 1.01)
    let width = max(21, style.columns - 36)
    let axis = PlotScale(.logarithmic, values: [1 / reach, reach], from: 0, to: Double(width - 1))
    func place(_ change: Double) -> Int { Int(axis.position(max(1e-9, change + 1)).rounded()) }
    var text =
      pad(diff.primary.rawValue, 10) + pad("◂ B is faster", width / 2) + String(repeating: " ", count: max(0, width - width / 2 - 13))
    text = text + "B is slower ▸\n"
    for (quantile, change) in rows {
      var cells = [Character](repeating: " ", count: width)
      for cell in place(-margin)...place(margin) { cells[cell] = style.isUnicode ? "░" : ":" }
      cells[place(0)] = style.isUnicode ? "│" : "|"
      if let interval = quantile.interval {
        for cell in place(interval.changeLow)...max(place(interval.changeLow), place(interval.changeHigh)) {
          cells[cell] = style.isUnicode ? "─" : "-"
        }
        cells[place(interval.changeLow)] = style.isUnicode ? "├" : "["
        cells[place(interval.changeHigh)] = style.isUnicode ? "┤" : "]"
      }
      cells[place(change)] = style.isUnicode ? "●" : "O"
      let look = DiffLook.of(diff.vetoes.isEmpty ? quantile.verdict : .insufficient)
      let ink: TerminalStyle.Ink = look.judgement == .slower ? .second : look.judgement == .faster ? .first : .soft
      text += pad(quantile.name, 10) + style.ink(String(cells), ink)
      text += "  \(look.sign) \(RatioChart.percent(change))\n"
    }
    return text
  }

  private func pad(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }
}

extension ReportDiff {
  /// The comparison for people, as wide and in the characters and colours that `style` says.
  public func text(_ style: TerminalStyle) -> String {
    // Names and reasons come out of reports that somebody else may have written.
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { PrintableText.visible(String($0)) }
    let plot = style.showsPlots ? RatioPlot(diff: self, style: style).text : ""
    return style.fitted(lines.joined(separator: "\n") + (plot.isEmpty ? "" : "\n" + plot))
  }
}
