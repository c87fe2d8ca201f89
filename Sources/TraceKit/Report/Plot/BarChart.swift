/// Counts by name, as horizontal bars.
struct BarChart {
  struct Bar {
    var name: String
    var value: Double
    var label: String
    /// A second value beside it: B of a comparison.
    var second: (value: Double, label: String)? = nil
  }

  var bars: [Bar]
  private static let nameWidth = 96.0
  private static let labelWidth = 170.0

  private var thickness: Double { bars.contains { $0.second != nil } ? 34 : 22 }
  var area: PlotArea { PlotArea(height: Double(bars.count) * thickness + 12) }

  func draw(_ writer: inout HTMLWriter) {
    let largest = max(1e-300, bars.flatMap { [$0.value, $0.second?.value ?? 0] }.max() ?? 1)
    let full = area.width - Self.nameWidth - Self.labelWidth
    for (i, bar) in bars.enumerated() {
      let y = 6 + Double(i) * thickness
      writer.label(bar.name, Self.nameWidth - 8, y + thickness / 2 + 4, anchor: "end")
      let height = bar.second == nil ? thickness - 6 : (thickness - 6) / 2
      func draw(_ value: Double, _ label: String, _ y: Double, _ style: StaticString) {
        let width = max(value > 0 ? 1 : 0, full * value / largest)
        writer.rectangle(Self.nameWidth, y, width, height - 1, style)
        writer.label(label, Self.nameWidth + width + 6, y + height / 2 + 4)
      }
      draw(bar.value, bar.label, y + 2, "fa")
      if let second = bar.second { draw(second.value, second.label, y + 2 + height, "fb") }
    }
  }
}
