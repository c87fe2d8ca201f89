import Glibc

/// Pictures made of characters.
struct TerminalPlots {
  let style: TerminalStyle

  private static let eighths = Array(" ▏▎▍▌▋▊▉█")
  private static let heights = Array("▁▂▃▄▅▆▇█")
  private static let plainHeights = Array("_.-~=+*#")
  private static let shades = Array(" ░▒▓█")
  private static let plainShades = Array(" .:+#")

  /// A bar of up to `width` characters for a share of 0…1.
  func bar(_ share: Double, width: Int) -> String {
    let share = share.isFinite ? min(1, max(0, share)) : 0
    if !style.isUnicode { return String(repeating: "#", count: Int((share * Double(width)).rounded())) }
    let units = Int((share * Double(width) * 8).rounded())
    var bar = String(repeating: "█", count: units / 8)
    if units % 8 > 0 { bar.append(Self.eighths[units % 8]) }
    return bar
  }

  /// One character for each of at most `width` stretches of a series over time, by height; a stretch stands for the mean of its values.
  /// - Parameter points: as for a step line: a value holds until the next point; the last one only ends the line.
  func sparkline(_ points: [LineChart.Point], width: Int) -> String {
    let values = Self.resampled(points, to: width)
    guard let largest = values.max(), largest > 0 else { return "" }
    let heights = style.isUnicode ? Self.heights : Self.plainHeights
    return String(
      values.map { value in
        value <= 0 ? " " : heights[min(heights.count - 1, Int(value / largest * Double(heights.count)))]
      })
  }

  /// Means of a step line over equal stretches of time: as many as there are steps, and at most `width`.
  static func resampled(_ points: [LineChart.Point], to width: Int) -> [Double] {
    guard points.count > 1, let start = points.first?.x, let end = points.last?.x, end > start, end.isFinite else {
      return points.first.map { [$0.y] } ?? []
    }
    let count = max(1, min(width, points.count - 1))
    var sums = [Double](repeating: 0, count: count)
    let stretch = (end - start) / Double(count)
    for (a, b) in zip(points, points.dropFirst()) {
      var from = a.x
      while from < b.x {
        let index = min(count - 1, max(0, Int((from - start) / stretch)))
        let to = index == count - 1 ? b.x : min(b.x, max(start + Double(index + 1) * stretch, from.nextUp))
        sums[index] += a.y * (to - from)
        from = to
      }
    }
    return sums.map { $0 / stretch }
  }

  /// Offsets from bottom to top over time from left to right: darker is more; the colour says whether reads or writes prevail.
  func blockMap(_ map: OffsetPicture, lines: Int, width: Int) -> [String] {
    let (columns, rows) = (max(1, min(width, map.columns)), max(1, min(lines, map.rows)))
    var reads = [Double](repeating: 0, count: columns * rows)
    var writes = reads
    for column in 0..<map.columns {
      for row in 0..<map.rows {
        let cell = column * columns / map.columns * rows + row * rows / map.rows
        reads[cell] += Double(map.reads[column * map.rows + row])
        writes[cell] += Double(map.writes[column * map.rows + row])
      }
    }
    let largest = zip(reads, writes).map(+).max() ?? 0
    guard largest > 0 else { return [] }
    let shades = style.isUnicode ? Self.shades : Self.plainShades
    return (0..<rows).reversed().map { row in
      var line = ""
      var (run, runInk) = ("", TerminalStyle.Ink.first)
      // A change of colour for each stretch of cells, not for each cell.
      for column in 0..<columns {
        let cell = column * rows + row
        let count = reads[cell] + writes[cell]
        let ink: TerminalStyle.Ink = count == 0 ? runInk : writes[cell] > reads[cell] ? .second : .first
        if ink != runInk {
          line += run.isEmpty ? "" : style.ink(run, runInk)
          (run, runInk) = ("", ink)
        }
        run.append(count == 0 ? " " : shades[shade(count, of: largest, shades.count)])
      }
      while run.last == " " { run.removeLast() }
      return line + (run.isEmpty ? "" : style.ink(run, runInk))
    }
  }

  /// Counts span orders of magnitude, so shades follow their logarithm; 0 is for none.
  private func shade(_ count: Double, of largest: Double, _ shades: Int) -> Int {
    let share = largest > 1 ? log(1 + count) / log(1 + largest) : 1
    return min(shades - 1, max(1, Int((share * Double(shades - 1)).rounded(.up))))
  }
}
