extension ReportDiff {
  /// The comparison of request with request, for people.
  var pairedText: String {
    guard let paired else { return "" }
    var text = "request by request: \(paired.all.requests) pairs"
    if paired.onlyA + paired.onlyB > 0 { text += ", \(paired.onlyA) only in A, \(paired.onlyB) only in B" }
    text += "\n" + Self.groupTable(paired)
    guard !paired.worst.isEmpty else { return text }
    var table = TextTable()
    table.add(["slowed most", "operation", "offset", "size", "at", "A", "B", "B − A", "file"])
    for row in paired.worst.prefix(10) {
      table.add([
        "request \(row.request)", row.operation, row.offsetBytes.map { String($0) } ?? "—", row.sizeBytes.map { String($0) } ?? "—",
        DurationText.text(row.atNanoseconds), DurationText.text(row.aNanoseconds), DurationText.text(row.bNanoseconds),
        DurationText.text(row.bNanoseconds &- row.aNanoseconds), row.file,
      ])
    }
    return text + "\n" + table.render(indent: "")
  }

  private static func groupTable(_ paired: Paired) -> String {
    var table = TextTable()
    table.add(["", "requests", "median change", "10 % … 90 %", "slower", "B − A together"])
    func add(_ title: String, _ groups: [Group]) {
      guard groups.count > 1 else { return }
      table.add([title])
      for group in groups { add("  " + group.name, group) }
    }
    func add(_ name: String, _ group: Group) {
      table.add([
        name, String(group.requests), percent(group.medianChange), "\(percent(group.change10)) … \(percent(group.change90))",
        Decimal.text(group.shareSlower * 100, digits: 1) + " %",
        DurationText.text(Int64(bounded: group.lostNanoseconds)),
      ])
    }
    add("all", paired.all)
    add("by operation", paired.byOperation)
    add("by size", paired.bySize)
    add("by part of the trace", paired.byPhase)
    add("by file", Array(paired.byFile.prefix(10)))
    return table.render(indent: "")
  }
}
