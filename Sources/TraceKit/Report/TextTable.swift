/// Columns of text, aligned: the first to the left, the others to the right.
struct TextTable {
  private var rows: [[String]] = []

  mutating func add(_ cells: [String]) { rows.append(cells) }

  var isEmpty: Bool { rows.isEmpty }

  /// The table as lines.
  /// - Parameters:
  ///   - maximumWidth: where the table would be wider, columns are left out.
  ///   - expendable: headers of the columns that may be left out, the first one first.
  func render(indent: String = "  ", maximumWidth: Int = .max, expendable: [String] = []) -> String {
    var table = self
    for name in expendable where table.width + indent.count > maximumWidth { table.removeColumn(name) }
    let widths = table.widths
    return table.rows.map { row in
      var line = indent
      for (i, cell) in row.enumerated() {
        let padding = String(repeating: " ", count: widths[i] - cell.count)
        line += i == 0 ? cell + padding : "  " + padding + cell
      }
      while line.last == " " { line.removeLast() }
      return line + "\n"
    }.joined()
  }

  private var widths: [Int] {
    (0..<(rows.map(\.count).max() ?? 0)).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
  }

  private var width: Int { widths.reduce(0) { $0 + $1 + 2 } - 2 }

  private mutating func removeColumn(_ name: String) {
    guard let column = rows.first?.firstIndex(of: name) else { return }
    for i in rows.indices where rows[i].count > column { rows[i].remove(at: column) }
  }
}
