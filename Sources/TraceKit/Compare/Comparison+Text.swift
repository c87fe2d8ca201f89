extension Comparison {
  /// The comparison for people: one table of all candidates, then each against the first.
  public var text: String {
    var text = ""
    for candidate in candidates { text += "\(candidate.letter)  \(candidate.name)\n" }
    text += "\(rounds) runs each after a discarded one, in the order \(order.joined(separator: ", ")) (seed \(seed))\n\n"
    text += table()
    for (i, diff) in diffs.enumerated() {
      text += "\n=== \(candidates[i + 1].letter) against \(candidates[0].letter) ===\n" + diff.text
    }
    return text
  }

  private func table() -> String {
    var table = TextTable()
    table.add(["means of the runs, spread"] + candidates.map(\.letter))
    for row in candidates[0].figures.indices {
      table.add([Self.title(candidates[0].figures[row].name)] + candidates.map { Self.cell($0.figures[row]) })
    }
    table.add(
      ["fidelity"]
        + fidelity.map { verdicts in
          verdicts.count == 1
            ? verdicts.first!.key : verdicts.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }.joined(separator: ", ")
        })
    return table.render(indent: "")
  }

  private static func title(_ name: String) -> String {
    if let title = ReportDiff.totalNames[name] { return title }
    let plain = name.hasSuffix("_ns") ? name.dropLast(3) : name[...]
    return String(plain.map { $0 == "_" ? "." : $0 == "." ? " " : $0 })
  }

  private static func cell(_ figure: Figure) -> String {
    guard figure.mean != nil else { return "—" }
    let value = ReportDiff.figure(figure.name, figure.mean)
    return figure.spread.map { "\(value) ±\(Decimal.text($0 * 100, digits: 1)) %" } ?? value
  }
}
