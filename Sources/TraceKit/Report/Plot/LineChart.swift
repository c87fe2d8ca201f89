/// Lines over a common axis.
struct LineChart {
  struct Point {
    var x: Double
    var y: Double
  }
  struct Series {
    var name: String
    var style: SeriesStyle
    var points: [Point]
    /// The value holds until the next point.
    var isStep = false
  }

  var area = PlotArea()
  var x: PlotScale
  var xTicks: [PlotScale.Tick]
  var xName: String
  var y: PlotScale
  var yTicks: [PlotScale.Tick]
  var series: [Series]

  func draw(_ writer: inout HTMLWriter) {
    writer.axes(area, x: x, xTicks, xName, y: y, yTicks)
    for one in series where !one.points.isEmpty {
      writer.element("path", ["d": path(one), "class": "\(one.style.line)"])
    }
    writer.legend(area, series.filter { !$0.points.isEmpty }.map { ($0.name, $0.style) })
  }

  private func path(_ series: Series) -> String {
    var path = ""
    var last = ""
    for (i, point) in series.points.enumerated() {
      let (px, py) = (HTMLWriter.coordinate(x.position(point.x)), HTMLWriter.coordinate(y.position(point.y)))
      if i == 0 {
        path = "M\(px) \(py)"
      } else if series.isStep {
        path += "H\(px)" + (py == last ? "" : "V\(py)")
      } else {
        path += "L\(px) \(py)"
      }
      last = py
    }
    return path
  }
}
