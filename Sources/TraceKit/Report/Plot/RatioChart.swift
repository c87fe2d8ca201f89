import Glibc

/// Ratios with their intervals on a logarithmic axis, a row each, around a band of what counts as equal.
struct RatioChart {
  /// How a row is judged; colour and symbol follow from it.
  enum Judgement {
    case slower, faster, equal, open
  }
  struct Row {
    var name: String
    /// B ÷ A.
    var ratio: Double?
    /// Ends of the interval, B ÷ A.
    var low: Double?
    var high: Double?
    var judgement: Judgement
    /// What stands at the end of the row.
    var note: String
  }

  var rows: [Row]
  /// 0.02 for ±2 %.
  var margin: Double

  private static let rowHeight = 34.0
  var area: PlotArea { PlotArea(height: Double(rows.count) * Self.rowHeight + 70, right: 230, top: 28) }

  func draw(_ writer: inout HTMLWriter) {
    let area = self.area
    let values = rows.flatMap { [$0.ratio, $0.low, $0.high] }.compactMap { $0 }.filter { $0 > 0 && $0.isFinite }
    // Symmetric around 1, at least as wide as twice the margin.
    let reach = min(1e6, max(values.map { max($0, 1 / $0) }.max() ?? 1, 1 + 2.5 * margin, 1.01)) * 1.02
    let x = PlotScale(.logarithmic, values: [1 / reach, reach], from: area.x0, to: area.x1)
    let band = (x.position(1 / (1 + margin)), x.position(1 + margin))
    writer.rectangle(band.0, area.y1, band.1 - band.0, area.y0 - area.y1, "band")
    writer.line(x.position(1), area.y1, x.position(1), area.y0, "x")
    writer.line(area.x0, area.y0, area.x1, area.y0, "x")
    for tick in HTMLWriter.spread(Self.ticks(reach).map { .init(value: $0, label: Self.percent($0 - 1)) }, x) {
      let place = x.position(tick.value)
      writer.line(place, area.y0, place, area.y0 + 4, "x")
      writer.label(tick.label, place, area.y0 + 17, anchor: "middle")
    }
    writer.label("◂ B is faster", area.x0, 16, "n")
    writer.label("B is slower ▸", area.x1, 16, anchor: "end", "n")
    writer.label("change from A to B", (area.x0 + area.x1) / 2, area.height - 6, anchor: "middle", "n")
    for (i, row) in rows.enumerated() { draw(row, y: area.y1 + (Double(i) + 0.5) * Self.rowHeight, x, &writer) }
  }

  private func draw(_ row: Row, y: Double, _ x: PlotScale, _ writer: inout HTMLWriter) {
    writer.label(row.name, area.x0 - 10, y + 4, anchor: "end", "t s")
    let style: (line: StaticString, dot: StaticString) =
      switch row.judgement {
      case .slower: ("i b", "fb")
      case .faster: ("i a", "fa")
      case .equal, .open: ("i r", "fr")
      }
    if let low = row.low, let high = row.high {
      writer.line(x.position(low), y, x.position(high), y, style.line)
      for end in [low, high] { writer.line(x.position(end), y - 5, x.position(end), y + 5, style.line) }
    }
    if let ratio = row.ratio {
      let place = x.position(ratio)
      // A shape of its own for each judgement: colour alone must not carry it.
      let shape =
        switch row.judgement {
        case .slower: [(0.0, -7.0), (7, 6), (-7, 6)]
        case .faster: [(0.0, 7.0), (7, -6), (-7, -6)]
        case .equal: [(-5.0, -5.0), (5, -5), (5, 5), (-5, 5)]
        case .open: [(0.0, -6.0), (6, 0), (0, 6), (-6, 0)]
        }
      let points = shape.map { "\(HTMLWriter.coordinate(place + $0.0)),\(HTMLWriter.coordinate(y + $0.1))" }.joined(separator: " ")
      writer.element("polygon", ["points": points, "class": "\(row.low == nil ? "fr" : style.dot)"])
    }
    writer.label(row.note, area.x1 + 12, y + 4)
  }

  private static func ticks(_ reach: Double) -> [Double] {
    let steps: [Double] =
      reach > 30
      ? [0.001, 0.01, 0.1, 1, 10, 100, 1000, 1e4, 1e5]
      : reach > 4
        ? [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
        : reach > 1.7
          ? [0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4]
          : reach > 1.25
            ? [0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.7]
            : reach > 1.1
              ? [0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2]
              : reach > 1.04
                ? [0.9, 0.92, 0.94, 0.96, 0.98, 1, 1.02, 1.04, 1.06, 1.08, 1.1] : [0.96, 0.97, 0.98, 0.99, 1, 1.01, 1.02, 1.03, 1.04]
    return steps.filter { $0 >= 1 / reach && $0 <= reach }
  }

  /// `+12 %`, `−3.5 %`; factors from ten times on.
  static func percent(_ change: Double) -> String {
    if change >= 9 { return "×\(AxisLabel.number(change + 1))" }
    let number = Decimal.text(
      abs(change) * 100, digits: abs(change) < 0.0995 && (change * 1000).rounded() / 10 != (change * 100).rounded() ? 1 : 0)
    return change == 0 ? "0 %" : "\(change > 0 ? "+" : "−")\(number) %"
  }
}
