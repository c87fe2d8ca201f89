/// The rectangle of a picture in which values are drawn, in the picture's units; axes and labels lie outside.
struct PlotArea {
  /// Size of the whole picture.
  var width = 760.0
  var height = 280.0
  /// Margins.
  var left = 72.0
  var right = 16.0
  var top = 30.0
  var bottom = 42.0

  var x0: Double { left }
  var x1: Double { width - right }
  var y0: Double { height - bottom }
  var y1: Double { top }
}

extension HTMLWriter {
  /// A coordinate, with one decimal.
  static func coordinate(_ value: Double) -> String {
    let text = Decimal.text(value, digits: 1)
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }

  /// A straight line of SVG.
  mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ style: StaticString) {
    element(
      "line",
      [
        "x1": Self.coordinate(x1), "y1": Self.coordinate(y1), "x2": Self.coordinate(x2), "y2": Self.coordinate(y2),
        "class": "\(style)",
      ])
  }

  /// A filled rectangle of SVG.
  mutating func rectangle(_ x: Double, _ y: Double, _ width: Double, _ height: Double, _ style: StaticString) {
    element(
      "rect",
      [
        "x": Self.coordinate(x), "y": Self.coordinate(y), "width": Self.coordinate(max(0, width)),
        "height": Self.coordinate(max(0, height)), "class": "\(style)",
      ])
  }

  /// A text of SVG; `anchor` is `start`, `middle` or `end`.
  mutating func label(_ text: String, _ x: Double, _ y: Double, anchor: StaticString = "start", _ style: StaticString = "t") {
    element("text", ["x": Self.coordinate(x), "y": Self.coordinate(y), "text-anchor": "\(anchor)", "class": "\(style)"], text: text)
  }

  /// Lines and labels of both axes.
  mutating func axes(_ area: PlotArea, x: PlotScale, _ xTicks: [PlotScale.Tick], _ xName: String, y: PlotScale, _ yTicks: [PlotScale.Tick])
  {
    for tick in yTicks {
      let place = y.position(tick.value)
      line(area.x0, place, area.x1, place, "g")
      label(tick.label, area.x0 - 6, place + 4, anchor: "end")
    }
    for tick in Self.spread(xTicks, x) {
      let place = x.position(tick.value)
      line(place, area.y0, place, area.y0 + 4, "x")
      label(tick.label, place, area.y0 + 17, anchor: place > area.x1 - 14 ? "end" : "middle")
    }
    line(area.x0, area.y0, area.x1, area.y0, "x")
    label(xName, (area.x0 + area.x1) / 2, area.height - 6, anchor: "middle", "n")
  }

  /// The ticks whose labels don't run into each other.
  static func spread(_ ticks: [PlotScale.Tick], _ scale: PlotScale) -> [PlotScale.Tick] {
    var free = -Double.infinity
    return ticks.filter { tick in
      let half = Double(tick.label.count) * 3.6 + 5
      let place = scale.position(tick.value)
      guard place - half >= free else { return false }
      free = place + half
      return true
    }
  }

  /// Names and samples of lines above the picture.
  mutating func legend(_ area: PlotArea, _ entries: [(name: String, style: SeriesStyle)]) {
    var x = area.x0
    for entry in entries {
      element(
        "path",
        ["d": "M\(Self.coordinate(x)) 14h22", "class": "\(entry.style.line)"])
      label(entry.name, x + 27, 18)
      x += 27 + Double(entry.name.count) * 6.6 + 18
    }
  }
}

/// What a line stands for; colours, dashes and widths follow from it. Read and A are blue, write and B orange, what was recorded is dashed.
enum SeriesStyle {
  case first, second, third
  case recorded, recordedFirst, recordedSecond

  /// Class of the line.
  var line: StaticString {
    switch self {
    case .first: "l a"
    case .second: "l b"
    case .third: "l c"
    case .recorded: "l r"
    case .recordedFirst: "l ra"
    case .recordedSecond: "l rb"
    }
  }
}
