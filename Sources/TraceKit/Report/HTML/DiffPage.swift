import Glibc

/// The HTML page of a comparison: one file that needs nothing else.
struct DiffPage {
  let diff: ReportDiff
  /// The first run of each side, where there is a report of it: what the figures over time are drawn from.
  let a: ReplayReport?
  let b: ReplayReport?
  let units: UnitChoice

  /// `A` and `B` with what stands for them.
  private var title: String { "\(Self.base(diff.a.name)) against \(Self.base(diff.b.name))" }

  private static func base(_ name: String) -> String {
    HTMLWriter.clipped(name.split(separator: "/").last.map(String.init) ?? name, 60)
  }

  var html: String {
    HTMLWriter.page(title: "Comparison: \(title)") { page in
      page.element("h1", text: "Comparison: \(title)")
      page.element(
        "p", ["class": "soft"],
        text: "Changes are from A to B, B ÷ A − 1. Blue and ▼ stand for faster, orange and ▲ for slower, ≈ for no difference that matters.")
      verdict(&page)
      page.tiles(tiles)
      conditions(&page)
      ratios(&page)
      gates(&page)
      totals(&page)
      percentiles(&page)
      if let figures {
        if diff.pairs > 1 {
          page.element("p", ["class": "soft"], text: "The figures over time below show the first run of each side.")
        }
        figures.latencyOverTime(&page)
        figures.rates(&page)
        figures.inFlight(&page)
        figures.lag(&page)
        figures.sizes(&page)
        figures.offsets(&page)
      }
      operations(&page)
      paired(&page)
      slowest(&page)
      differences(&page)
      errors(&page)
      page.element(
        "footer",
        text: "trace-replay \(ToolVersion.current), schema of comparisons \(diff.schema.version). This page loads nothing and runs nothing."
      )
    }
  }

  /// Figures of both sides need a report of both.
  private var figures: ReportFigures? {
    guard let a, let b else { return nil }
    return ReportFigures(runs: [.init(name: "A", report: a), .init(name: "B", report: b)], units: units)
  }

  // MARK: Verdict and conditions

  private func verdict(_ page: inout HTMLWriter) {
    let look = DiffLook.of(diff.verdict)
    let method: String
    switch diff.method {
    case .pairsOfRuns: method = "over \(diff.pairs) pairs of runs"
    case .windowsOfOnePair: method = diff.method.label
    }
    guard diff.vetoes.isEmpty else {
      return page.verdict(
        "✕", "No verdict counts", "Without the reasons below it would be: \(diff.verdict.rawValue).", reasons: diff.vetoes, .bad)
    }
    page.verdict(
      look.sign, look.word,
      "\(look.sentence) \(diff.primary.rawValue.prefix(1).uppercased() + diff.primary.rawValue.dropFirst()) latency, margin "
        + "\(Self.margin(diff.marginPercent)), intervals \(method).",
      reasons: diff.drifts.map(ReportDiff.sentence), look.tone)
  }

  static func margin(_ percent: Double) -> String { "±\(AxisLabel.number(percent)) %" }

  private var tiles: [(name: String, value: String)] {
    var tiles: [(name: String, value: String)] = []
    for quantile in diff.primaryLatency?.quantiles ?? [] {
      guard let change = quantile.interval?.change ?? quantile.ratio.map({ $0 - 1 }) else { continue }
      let look = DiffLook.of(diff.vetoes.isEmpty ? quantile.verdict : .insufficient)
      tiles.append(("\(diff.primary.rawValue) \(quantile.name)", "\(look.mark)\(RatioChart.percent(change))"))
    }
    if let rate = diff.totals.first(where: { $0.name == "iops" })?.ratio { tiles.append(("requests/s", RatioChart.percent(rate - 1))) }
    return tiles
  }

  private func conditions(_ page: inout HTMLWriter) {
    page.heading("What was compared")
    func side(_ side: ReportDiff.Side) -> String {
      var text = side.name
      if side.source != .report { text += side.source == .log ? " (a replay's log)" : " (the recording)" }
      if let engine = side.engine { text += ", engine \(engine)" }
      if side.runs.count > 1 { text += ", runs: " + side.runs.prefix(10).joined(separator: ", ") + (side.runs.count > 10 ? " …" : "") }
      if let time = side.createdUnixNanoseconds { text += ", \(TimeText.utc(time))" }
      return text
    }
    page.conditions([
      ("A", side(diff.a)), ("B", side(diff.b)), ("trace", diff.digest ?? "not known"),
      ("differs", diff.differences.isEmpty ? "nothing" : diff.differences.prefix(20).map(\.name).joined(separator: ", ")),
    ])
    for note in diff.notes.prefix(30) { page.element("p", text: HTMLWriter.clipped("Note: \(note)", 600)) }
  }

  // MARK: Ratios

  private func ratios(_ page: inout HTMLWriter) {
    page.heading("Change of latency")
    for latency in diff.latencies where latency.quantiles.contains(where: { $0.ratio != nil }) {
      let chart = RatioChart(rows: latency.quantiles.map { row($0) }, margin: diff.marginPercent / 100)
      let lines = latency.quantiles.map { "\($0.name) \(Self.change($0))" }.joined(separator: ", ")
      var description = "\(lines). Marks are the changes, bars their 95 % intervals; the band is what counts as no difference "
      description += "(\(Self.margin(diff.marginPercent)))."
      if let distance = latency.wassersteinNanoseconds, let share = latency.wassersteinShare {
        description += " Mean distance of the distributions: \(DurationText.text(Int64(min(9e18, distance)))), "
        description += "\(Decimal.text(share * 100, digits: 1)) % of A's mean."
      }
      page.figure(
        "\(latency.kind.rawValue.prefix(1).uppercased() + latency.kind.rawValue.dropFirst()) latency, B against A", description, chart.area,
        table: table(latency)
      ) {
        chart.draw(&$0)
      }
    }
  }

  private func row(_ quantile: ReportDiff.Quantile) -> RatioChart.Row {
    let verdict = diff.vetoes.isEmpty ? quantile.verdict : .insufficient
    let look = DiffLook.of(verdict)
    return RatioChart.Row(
      name: quantile.name, ratio: quantile.interval.map { $0.change + 1 } ?? quantile.ratio,
      low: quantile.interval.map { $0.changeLow + 1 },
      high: quantile.interval.map { $0.changeHigh + 1 }, judgement: look.judgement,
      note: "\(look.sign) \(Self.change(quantile))  \(diff.vetoes.isEmpty ? quantile.verdict.rawValue : "vetoed")")
  }

  private static func change(_ quantile: ReportDiff.Quantile) -> String {
    (quantile.interval?.change ?? quantile.ratio.map { $0 - 1 }).map(RatioChart.percent) ?? "—"
  }

  private func table(_ latency: ReportDiff.Latency) -> PageTable {
    PageTable(
      header: [
        latency.kind.rawValue, "A", "B", "B ÷ A", "change", "95 % interval", diff.method == .pairsOfRuns ? "pairs" : "windows", "verdict",
        "why",
      ],
      rows: latency.quantiles.map { row in
        [
          row.name, row.aNanoseconds.map(DurationText.text) ?? "—", row.bNanoseconds.map(DurationText.text) ?? "—",
          row.ratio.map { Decimal.text($0, digits: 3) } ?? "—", Self.change(row), row.interval.map(ReportDiff.range) ?? "—",
          row.interval.map { String($0.count) } ?? "—", diff.vetoes.isEmpty ? row.verdict.rawValue : "vetoed", row.reason ?? "",
        ]
      }, texts: [0, 7, 8], verdicts: [7: DiffLook.tone])
  }

  private func gates(_ page: inout HTMLWriter) {
    guard !diff.gates.isEmpty else { return }
    page.heading("Limits")
    page.table(
      PageTable(
        header: ["limit", "of", "change", "95 % interval", "p", "p by Holm", "result", "why"],
        rows: diff.gates.map { gate in
          [
            gate.expression, gate.metric, gate.interval.map { RatioChart.percent($0.change) } ?? "—",
            gate.interval.map(ReportDiff.range) ?? "—", gate.pValue.map { Decimal.text($0, digits: 4) } ?? "—",
            gate.adjustedPValue.map { Decimal.text($0, digits: 4) } ?? "—", gate.result.rawValue, gate.reason ?? "",
          ]
        }, texts: [0, 1, 6, 7], verdicts: [6: DiffLook.tone]))
  }

  private func totals(_ page: inout HTMLWriter) {
    page.heading("Totals")
    page.table(
      PageTable(
        header: ["", "A", "B", "B ÷ A", "95 % interval of the change"],
        rows: diff.totals.map { total in
          [
            ReportDiff.totalNames[total.name] ?? total.name, figure(total.name, total.a), figure(total.name, total.b),
            total.ratio.map { Decimal.text($0, digits: 3) } ?? "—", total.interval.map(ReportDiff.range) ?? "—",
          ]
        }))
  }

  private func figure(_ name: String, _ value: Double?) -> String {
    guard let value, value.isFinite else { return "—" }
    if name == "bytes_per_second" { return ByteCount.rate(value, units.rates) }
    if name.hasPrefix("bytes") { return ByteCount.text(UInt64(max(0, min(value, 9e18))), units.sizes) }
    return ReportDiff.figure(name, value)
  }

  // MARK: Distributions

  /// One pair has its histograms; of several runs the diff has the percentiles of all of them together.
  private func percentiles(_ page: inout HTMLWriter) {
    if let figures, diff.pairs == 1 { return figures.percentiles(&page) }
    guard let latency = diff.primaryLatency, !latency.shift.isEmpty else { return }
    page.heading("Latency by percentile")
    func line(_ name: String, _ style: SeriesStyle, _ value: (ReportDiff.ShiftPoint) -> Int64) -> LineChart.Series {
      LineChart.Series(
        name: name, style: style,
        points: latency.shift.map { LineChart.Point(x: -log10(max(1e-12, 1 - $0.percentile / 100)), y: Double(max(1, value($0)))) })
    }
    let lines = [
      line("A \(latency.kind.rawValue)", .first) { $0.aNanoseconds }, line("B \(latency.kind.rawValue)", .second) { $0.bNanoseconds },
    ]
    let chart = ReportFigures.percentileChart(lines, nines: lines[0].points.last?.x ?? 2)
    let table = PageTable(
      header: ["percentile", "A", "B", "B ÷ A"],
      rows: latency.shift.map { point in
        [
          AxisLabel.number(point.percentile), DurationText.text(point.aNanoseconds), DurationText.text(point.bNanoseconds),
          point.aNanoseconds > 0 ? Decimal.text(Double(point.bNanoseconds) / Double(point.aNanoseconds), digits: 3) : "—",
        ]
      })
    page.figure(
      "All runs of each side by percentile",
      "To the right lie the slowest requests, ten times fewer with each label; both axes are logarithmic.",
      chart.area, table: table
    ) { chart.draw(&$0) }
  }

  // MARK: Requests

  private func operations(_ page: inout HTMLWriter) {
    guard !diff.operations.isEmpty else { return }
    page.heading("By operation")
    page.table(
      PageTable(
        header: ["operation", "requests A", "requests B", "errors A", "errors B", "p50 A", "p50 B", "B ÷ A", "p99 A", "p99 B", "B ÷ A"],
        rows: diff.operations.map { operation in
          [
            operation.operation, String(operation.requestsA), String(operation.requestsB), String(operation.errorsA),
            String(operation.errorsB),
          ]
            + ["p50", "p99"].flatMap { key -> [String] in
              let row = operation.quantiles.first { $0.quantile == key }
              return [
                row?.aNanoseconds.map(DurationText.text) ?? "—", row?.bNanoseconds.map(DurationText.text) ?? "—",
                row?.ratio.map { Decimal.text($0, digits: 3) } ?? "—",
              ]
            }
        }))
  }

  private func paired(_ page: inout HTMLWriter) {
    guard let paired = diff.paired else { return }
    page.heading("Request against request")
    page.element(
      "p",
      text: "The same \(paired.all.requests) requests in both runs: the median changes by \(RatioChart.percent(paired.all.medianChange)), "
        + "\(Decimal.text(paired.all.shareSlower * 100, digits: 1)) % are slower in B. \(paired.onlyA) only in A, \(paired.onlyB) only in B."
    )
    func table(_ name: String, _ groups: [ReportDiff.Group]) -> PageTable {
      PageTable(
        header: [name, "requests", "median change", "slower in B", "10 % below", "10 % above", "time lost"],
        rows: groups.map { group in
          [
            group.name, String(group.requests), RatioChart.percent(group.medianChange),
            Decimal.text(group.shareSlower * 100, digits: 1) + " %", RatioChart.percent(group.change10), RatioChart.percent(group.change90),
            DurationText.text(Int64(max(-9e18, min(9e18, group.lostNanoseconds)))),
          ]
        })
    }
    page.table(table("operation", [paired.all] + paired.byOperation))
    for (name, groups) in [("file", paired.byFile), ("size", paired.bySize), ("tenth of the run", paired.byPhase)] where groups.count > 1 {
      page.details("By \(name)", table(name, groups))
    }
    guard !paired.worst.isEmpty else { return }
    page.element("p", text: "Requests that lost most time:")
    page.table(
      PageTable(
        header: ["request", "operation", "file", "offset", "size", "at", "A", "B", "lost"],
        rows: paired.worst.map { request in
          [
            String(request.request), request.operation, request.file, request.offsetBytes.map(String.init) ?? "—",
            request.sizeBytes.map { ByteCount.text($0, units.sizes) } ?? "—", DurationText.text(request.atNanoseconds),
            DurationText.text(request.aNanoseconds), DurationText.text(request.bNanoseconds),
            DurationText.text(request.bNanoseconds &- request.aNanoseconds),
          ]
        }, texts: [1, 2]))
  }

  private func slowest(_ page: inout HTMLWriter) {
    if let a { PageTables.worst(a, units, heading: "Slowest requests of A", &page) }
    if let b { PageTables.worst(b, units, heading: "Slowest requests of B", &page) }
  }

  // MARK: Differences, errors

  private func differences(_ page: inout HTMLWriter) {
    page.heading("Differences of host, target and options")
    guard !diff.differences.isEmpty else { return page.element("p", text: "None: both sides ran under the same conditions.") }
    page.table(
      PageTable(
        header: ["condition", "A", "B", ""],
        rows: diff.differences.map { [$0.name, $0.a, $0.b, $0.isOverridden ? "allowed by name" : ""] }, texts: [0, 1, 2, 3]))
  }

  private func errors(_ page: inout HTMLWriter) {
    page.heading("Errors")
    let rows = [("A", a), ("B", b)].flatMap { name, report in
      (report?.errors ?? []).prefix(40).map { [name, $0.operation, "\($0.message) (\($0.errno))", String($0.requests)] }
    }
    if rows.isEmpty {
      page.element("p", text: a == nil || b == nil ? "The reports that are known name no error." : "No request failed.")
    } else {
      page.table(PageTable(header: ["run", "operation", "error", "requests"], rows: rows, texts: [0, 1, 2]))
    }
  }
}

/// How a verdict looks: its sign and its words say what its colour says.
struct DiffLook {
  var sign: String
  var word: String
  var sentence: String
  var tone: HTMLWriter.Tone
  var judgement: RatioChart.Judgement

  /// The sign with a blank behind it, where it says something about a single figure.
  var mark: String { sign == "▲" || sign == "▼" || sign == "≈" ? sign + " " : "" }

  static func of(_ verdict: ReportDiff.Verdict) -> DiffLook {
    switch verdict {
    case .regression:
      DiffLook(sign: "▲", word: "Regression", sentence: "B is slower than A by more than the margin.", tone: .bad, judgement: .slower)
    case .improvement:
      DiffLook(sign: "▼", word: "Improvement", sentence: "B is faster than A by more than the margin.", tone: .good, judgement: .faster)
    case .equivalent:
      DiffLook(sign: "≈", word: "Equivalent", sentence: "Any difference lies within the margin.", tone: .neutral, judgement: .equal)
    case .inconclusive:
      DiffLook(
        sign: "?", word: "Inconclusive", sentence: "The intervals allow for a difference and for none.", tone: .neutral, judgement: .open)
    case .insufficient:
      DiffLook(
        sign: "–", word: "Insufficient", sentence: "There are too few requests or runs for a statement.", tone: .neutral, judgement: .open)
    }
  }

  /// The tone of a verdict's or a limit's word in a table.
  static func tone(_ word: String) -> HTMLWriter.Tone {
    switch word {
    case "regression", "fails": .bad
    case "improvement", "holds": .good
    default: .neutral
    }
  }
}

extension ReportDiff {
  /// The comparison as one HTML file of less than 1 MB that loads and runs nothing.
  /// - Parameter a, b: the first report of each side, for the figures over time; nil for sides without reports.
  public func html(a: ReplayReport?, b: ReplayReport?, units: UnitChoice = UnitChoice()) -> String {
    DiffPage(diff: self, a: a, b: b, units: units).html
  }
}
