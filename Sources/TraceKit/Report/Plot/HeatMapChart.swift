import Glibc

/// A grid of counts as a picture: a small PNG, one pixel a cell, stretched inside axes. More is more opaque, so that it works on light
/// and on dark ground.
struct HeatMapChart {
  /// Colour of the cells: blue for reads and A, orange for writes and B.
  enum Hue {
    case first, second

    var colour: (UInt8, UInt8, UInt8) { self == .first ? (0x1A, 0x7F, 0xD0) : (0xE0, 0x7B, 0x10) }
    var scale: StaticString { self == .first ? "ha" : "hb" }
  }

  var area = PlotArea()
  var name: String
  var hue: Hue
  var columns: Int
  var rows: Int
  /// Counts by column, then row; row 0 is at the bottom.
  var counts: [UInt64]
  var x: PlotScale
  var xTicks: [PlotScale.Tick]
  var xName: String
  var y: PlotScale
  var yTicks: [PlotScale.Tick]
  /// The count that has the full colour; charts beside each other share it.
  var largest: UInt64

  private static let shades = 63

  func draw(_ writer: inout HTMLWriter) {
    writer.axes(area, x: x, xTicks, xName, y: y, yTicks)
    let picture = HTMLWriter.coordinate(area.x1 - area.x0)
    writer.element(
      "image",
      [
        "x": HTMLWriter.coordinate(area.x0), "y": HTMLWriter.coordinate(area.y1), "width": picture,
        "height": HTMLWriter.coordinate(area.y0 - area.y1), "preserveAspectRatio": "none", "class": "h",
        "href": "data:image/png;base64," + Base64.text(image.png),
      ])
    drawScale(&writer)
  }

  private var image: PaletteImage {
    let (red, green, blue) = hue.colour
    let palette = (0...Self.shades).map { shade in
      PaletteImage.Colour(red: red, green: green, blue: blue, opacity: shade == 0 ? 0 : UInt8(28 + 227 * shade / Self.shades))
    }
    var image = PaletteImage(width: columns, height: rows, palette: palette)
    for column in 0..<columns {
      for row in 0..<rows where counts[column * rows + row] > 0 { image[column, rows - 1 - row] = shade(counts[column * rows + row]) }
    }
    return image
  }

  /// Counts span orders of magnitude, so shades follow their logarithm.
  private func shade(_ count: UInt64) -> UInt8 {
    guard largest > 1 else { return UInt8(Self.shades) }
    let share = log(Double(min(count, largest))) / log(Double(largest))
    return UInt8(1 + (Double(Self.shades - 1) * share).rounded())
  }

  /// Name and meaning of the shades, above the picture.
  private func drawScale(_ writer: inout HTMLWriter) {
    writer.label(name, area.x0, 18, "t s")
    let steps = 12
    let x = area.x1 - 170
    writer.label("1", x - 6, 18, anchor: "end")
    for i in 0..<steps {
      let opacity = Decimal.text((28 + 227 * Double(i) / Double(steps - 1)) / 255, digits: 2)
      writer.element(
        "rect",
        [
          "x": HTMLWriter.coordinate(x + Double(i) * 8), "y": "9", "width": "8", "height": "10", "class": "\(hue.scale)",
          "fill-opacity": opacity,
        ])
    }
    writer.label("\(AxisLabel.count(Double(largest))) requests", x + Double(steps) * 8 + 6, 18)
  }
}

/// RFC 4648, section 4.
enum Base64 {
  static func text(_ bytes: [UInt8]) -> String {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      let value = group.enumerated().reduce(0) { $0 | Int($1.element) << (16 - 8 * $1.offset) }
      for i in 0..<4 { text.append(i <= group.count ? digits[value >> (18 - 6 * i) & 63] : 0x3D) }
    }
    return String(decoding: text, as: UTF8.self)
  }
}
