import Glibc

/// The figures of one run, or of run A and run B: the same pictures with one or with two sets of lines.
struct ReportFigures {
  struct Run {
    /// `A` or `B`; nil for the only run.
    var name: String?
    var report: ReplayReport
    var series: ReportSeries { ReportSeries(report) }
  }

  let runs: [Run]
  let units: UnitChoice

  private var isDiff: Bool { runs.count > 1 }
  private var first: Run { runs[0] }

  // MARK: Latency by percentile

  func percentiles(_ page: inout HTMLWriter) {
    var lines: [(name: String, style: SeriesStyle, summary: LatencySummary)] = []
    if isDiff {
      let isTimed = runs.allSatisfy { $0.series.isTimed }
      for (run, style) in zip(runs, [SeriesStyle.first, .second]) {
        let latency = run.report.latency
        lines.append(("\(run.name ?? "") \(isTimed ? "response" : "service")", style, isTimed ? latency.response : latency.service))
      }
    } else {
      lines.append(("service", .first, first.report.latency.service))
      if first.series.isTimed {
        lines.append(("response", .second, first.report.latency.response))
        lines.append(("lag", .third, first.report.latency.lag))
      }
    }
    if let recorded = runs.lazy.compactMap({ $0.report.recordedLatency }).first { lines.append(("recorded", .recorded, recorded)) }
    lines.removeAll { $0.summary.histogram.count == 0 }
    guard !lines.isEmpty else { return }
    page.heading("Latency by percentile")
    var description = lines.map { line in
      "\(line.name): p50 \(PageTables.time(line.summary.histogram, 0.5)), p99 \(PageTables.time(line.summary.histogram, 0.99)), "
        + "p99.9 \(PageTables.time(line.summary.histogram, 0.999))"
    }.joined(separator: "; ")
    description += ". To the right lie the slowest requests, ten times fewer with each label; both axes are logarithmic."
    let table = PageTable(
      header: ["latency", "count", "min", "mean"] + LatencySummary.quantiles.map { Self.percentile($0.key) } + ["max"],
      rows: lines.map { ReplayReport.row($0.name, $0.summary.histogram) })
    let chart = Self.percentileChart(
      lines.map { LineChart.Series(name: $0.name, style: $0.style, points: ReportSeries.percentiles($0.summary.histogram)) },
      nines: lines.map { ReportSeries.nines($0.summary.histogram.count) }.max() ?? 2)
    page.figure(isDiff ? "Both runs by percentile" : "Latencies of the whole run", description, chart.area, table: table) {
      chart.draw(&$0)
    }
  }

  /// Lines over the number of nines of the percentile.
  static func percentileChart(_ series: [LineChart.Series], nines end: Double) -> LineChart {
    let area = PlotArea(height: 320)
    let x = PlotScale(.linear, values: [0, end], from: area.x0, to: area.x1)
    // Latencies of 0, such as the lag of punctual requests, lie on the bottom line.
    var y = PlotScale(
      .logarithmic, values: series.flatMap { $0.points.map(\.y) }.filter { $0 > 1 }, from: area.y0, to: area.y1)
    y.round()
    let named: [(Double, String)] = [(0, "min"), (log10(2), "50 %"), (1, "90 %"), (2, "99 %"), (3, "99.9 %")]
    let ticks = (named + (4...12).map { (Double($0), "99." + String(repeating: "9", count: $0 - 2) + " %") }).filter { $0.0 <= end }
    return LineChart(
      area: area, x: x, xTicks: ticks.map { .init(value: $0.0, label: $0.1) }, xName: "share of requests that are at most this slow", y: y,
      yTicks: y.ticks(6, label: AxisLabel.duration), series: series)
  }

  /// `p99_9` as people write it.
  static func percentile(_ key: String) -> String { key.split(separator: "_").joined(separator: ".") }

  // MARK: Latency over the run

  private static let heatRows = 48

  func latencyOverTime(_ page: inout HTMLWriter) {
    let isTimed = runs.allSatisfy { $0.series.isTimed }
    let kind = isTimed ? "response" : "service"
    let sets = runs.map { run in
      run.report.windows.prefix(60).map { (isTimed ? $0.latency.response : $0.latency.service).histogram }
    }
    guard sets.contains(where: { $0.count > 1 }) else { return }
    page.heading("Latency over the run")
    let values = sets.joined().flatMap { [$0.minimum, $0.maximum] }.compactMap { $0.map { Double(max(1, $0)) } }
    let area = PlotArea(height: 250)
    let y = PlotScale(.logarithmic, values: values, from: area.y0, to: area.y1)
    let grids = sets.map { ReportSeries.grid($0, rows: Self.heatRows, axis: y) }
    let largest = grids.flatMap(\.counts).max() ?? 1
    for (i, (run, grid)) in zip(runs, grids).enumerated() where !sets[i].isEmpty {
      let requests = run.report.windows.reduce(0.0) { $0 + Double($1.requests) }
      let x = PlotScale(.linear, values: [0, requests], from: area.x0, to: area.x1)
      let name = run.name.map { "\($0), \(kind)" } ?? kind
      let chart = HeatMapChart(
        area: area, name: name, hue: i == 0 ? .first : .second, columns: grid.columns, rows: grid.rows, counts: grid.counts, x: x,
        xTicks: x.ticks(8, label: AxisLabel.count), xName: "requests replayed", y: y, yTicks: y.ticks(5, label: AxisLabel.duration),
        largest: max(1, largest))
      let medians = sets[i].compactMap { $0.quantile(0.5) }
      let range =
        medians.isEmpty ? "" : " The medians lie between \(DurationText.text(medians.min()!)) and \(DurationText.text(medians.max()!))."
      page.figure(
        "\(run.name.map { "\($0): \(kind)" } ?? (isTimed ? "Response" : "Service")) latency by window",
        "Each column is one of \(grid.columns) windows of consecutive requests; the stronger the colour, the more requests.\(range)", area,
        table: windowTable(Array(run.report.windows.prefix(60)), sets[i])
      ) { chart.draw(&$0) }
    }
  }

  private func windowTable(_ windows: [ReplayReport.Window], _ histograms: [LatencyHistogram]) -> PageTable {
    PageTable(
      header: ["first request", "requests", "p50", "p90", "p99", "max"],
      rows: zip(windows, histograms).map { window, histogram in
        [
          String(window.firstRequest), String(window.requests), PageTables.time(histogram, 0.5), PageTables.time(histogram, 0.9),
          PageTables.time(histogram, 0.99), histogram.maximum.map(DurationText.text) ?? "—",
        ]
      }, texts: [])
  }

  // MARK: Rates

  func rates(_ page: inout HTMLWriter) {
    page.heading("Rates over time")
    let requests = requestLines()
    timeFigure(
      &page, "Requests per second", ratesDescription("requests", requests), requests, tick: AxisLabel.count, valueName: "requests/s"
    ) { AxisLabel.count($0) }
    let bytes = byteLines()
    timeFigure(
      &page, "Bytes per second", ratesDescription("bytes", bytes), bytes, tick: { AxisLabel.bytes($0, units.rates) + "/s" },
      valueName: "bytes/s", base: units.rates.base
    ) { ByteCount.rate($0, units.rates) }
    recordingRates(&page)
  }

  private func requestLines() -> [LineChart.Series] {
    var lines = zip(runs, [SeriesStyle.first, .second]).map { run, style in
      LineChart.Series(name: run.name ?? "replayed", style: style, points: run.series.requestsPerSecond, isStep: true)
    }
    if let (run, factor) = recordingBeside {
      lines.append(
        LineChart.Series(
          name: "recorded", style: .recorded, points: run.series.recordedPerSecond(factor: factor) { Double($0.requests) }, isStep: true))
    }
    return lines
  }

  private func byteLines() -> [LineChart.Series] {
    var lines: [LineChart.Series] = []
    if isDiff {
      lines = zip(runs, [SeriesStyle.first, .second]).map { run, style in
        LineChart.Series(name: run.name ?? "", style: style, points: run.series.perSecond { Double($0.bytes) }, isStep: true)
      }
    } else {
      let bytes = first.series.bytesPerSecond
      lines.append(LineChart.Series(name: bytes.isSum ? "read and written" : "read", style: .first, points: bytes.read, isStep: true))
      lines.append(LineChart.Series(name: "written", style: .second, points: bytes.written, isStep: true))
    }
    guard let (run, factor) = recordingBeside else { return lines }
    let series = run.series
    if isDiff {
      lines.append(
        LineChart.Series(
          name: "recorded", style: .recorded,
          points: series.recordedPerSecond(factor: factor) { Double($0.bytesRead) + Double($0.bytesWritten) }, isStep: true))
    } else {
      lines.append(
        LineChart.Series(
          name: "recorded reads", style: .recordedFirst, points: series.recordedPerSecond(factor: factor) { Double($0.bytesRead) },
          isStep: true))
      lines.append(
        LineChart.Series(
          name: "recorded writes", style: .recordedSecond, points: series.recordedPerSecond(factor: factor) { Double($0.bytesWritten) },
          isStep: true))
    }
    return lines
  }

  /// The recording can be drawn on the replay's time axis when all runs kept to one multiple of its speed.
  private var recordingBeside: (Run, Double)? {
    guard let run = runs.first(where: { $0.report.recordedIntervals?.isEmpty == false }), let factor = run.series.speedFactor,
      runs.allSatisfy({ $0.series.speedFactor == factor })
    else { return nil }
    return (run, factor)
  }

  /// The recording on a time axis of its own, for replays that did not follow it.
  private func recordingRates(_ page: inout HTMLWriter) {
    guard recordingBeside == nil, let run = runs.first(where: { $0.report.recordedIntervals?.isEmpty == false }) else { return }
    let points = run.series.recordedPerSecond(factor: 1) { Double($0.requests) }
    let line = LineChart.Series(name: "recorded", style: .recorded, points: points, isStep: true)
    timeFigure(
      &page, "The recording's own requests per second",
      "The replay did not follow the recorded times, so the recording has an axis of its own: recorded time.", [line],
      tick: AxisLabel.count, valueName: "requests/s", timeName: "recorded time"
    ) { AxisLabel.count($0) }
  }

  private func ratesDescription(_ what: String, _ lines: [LineChart.Series]) -> String {
    let names = lines.filter { !$0.points.isEmpty }.map(\.name)
    var text = "Completed \(what) over the run's time"
    if names.contains(where: { $0.hasPrefix("recorded") }) { text += ", beside the recording's own rate (dashed)" }
    return text + "."
  }

  // MARK: In flight, lag

  func inFlight(_ page: inout HTMLWriter) {
    var lines = zip(runs, [SeriesStyle.first, .second]).map { run, style in
      LineChart.Series(name: run.name ?? "replayed", style: style, points: run.series.inFlight, isStep: true)
    }
    guard lines.contains(where: { !$0.points.isEmpty }) else { return }
    if let (run, factor) = recordingBeside, run.report.recordedIntervals?.contains(where: { $0.latencyNanoseconds != nil }) == true {
      // Time runs faster by the factor, requests in flight don't.
      let points = run.series.recordedPerSecond(factor: factor) { Double($0.latencyNanoseconds ?? 0) / 1e9 / factor }
      lines.append(LineChart.Series(name: "recorded", style: .recorded, points: points, isStep: true))
    }
    page.heading("Requests in flight")
    let means = runs.map { "\($0.name.map { "\($0): " } ?? "")\(Decimal.text($0.report.fidelity.replayedInFlight, digits: 2))" }
    timeFigure(
      &page, "Requests in flight",
      "Mean over each interval: the service latencies of the requests that completed in it, divided by its width. Over the whole run "
        + means.joined(separator: ", ") + ".", lines, tick: AxisLabel.number, valueName: "in flight"
    ) { Decimal.text($0, digits: 2) }
  }

  private static func dependencies(_ fidelity: ReplayReport.Fidelity) -> String {
    guard let share = fidelity.lateByDependencyShare, share > 0 else { return "" }
    return ", \(Decimal.text(share * 100, digits: 2)) % because requests that they follow took longer than recorded"
  }

  func lag(_ page: inout HTMLWriter) {
    let timed = zip(runs, [SeriesStyle.first, .second]).filter { $0.0.series.isTimed }
    guard !timed.isEmpty else { return }
    page.heading("Lag")
    let lines = timed.map { run, style in
      LineChart.Series(name: run.name ?? "largest lag", style: style, points: run.series.largestLag, isStep: true)
    }
    let shares = timed.compactMap { run, _ in
      run.report.fidelity.lateShare.map {
        "\(run.name.map { "\($0): " } ?? "")\(Decimal.text($0 * 100, digits: 2)) % of the requests were later than "
          + DurationText.text(run.report.fidelity.lagBudgetNanoseconds) + Self.dependencies(run.report.fidelity)
      }
    }
    timeFigure(
      &page, "Largest lag",
      "How late requests were submitted: submitted minus due, the largest value of each interval. " + shares.joined(separator: "; ") + ".",
      lines, tick: AxisLabel.duration, valueName: "lag"
    ) { DurationText.text(Int64(min(9e18, max(0, $0)))) }
  }

  /// Lines over the run's time, from 0.
  private func timeFigure(
    _ page: inout HTMLWriter, _ title: String, _ description: String, _ lines: [LineChart.Series], tick: (Double) -> String,
    valueName: String, timeName: String = "time since the start", base: Double = 10, value: (Double) -> String
  ) {
    let lines = lines.filter { !$0.points.isEmpty }.map { line in
      var line = line
      line.points = ReportSeries.thinned(line.points, to: 600)
      return line
    }
    guard !lines.isEmpty else { return }
    let area = PlotArea(height: 230)
    let x = PlotScale(.linear, values: lines.flatMap { $0.points.map(\.x) }, from: area.x0, to: area.x1)
    var y = PlotScale(.linear, values: lines.flatMap { $0.points.map(\.y) }, from: area.y0, to: area.y1)
    y.round(base: base)
    let chart = LineChart(
      area: area, x: x, xTicks: x.ticks(8, label: AxisLabel.duration), xName: timeName, y: y, yTicks: y.ticks(5, base: base, label: tick),
      series: lines)
    page.figure(title, description, area, table: timeTable(lines, valueName, value)) { chart.draw(&$0) }
  }

  private func timeTable(_ lines: [LineChart.Series], _ valueName: String, _ value: (Double) -> String) -> PageTable {
    // Lines have points of their own; the first one's are the rows, and the others are looked up.
    let rows = ReportSeries.thinned(lines[0].points, to: 60)
    return PageTable(
      header: ["from"] + lines.map { lines.count == 1 ? valueName : "\($0.name), \(valueName)" },
      rows: rows.dropLast(rows.count > 1 ? 1 : 0).enumerated().map { i, row in
        let end = i + 1 < rows.count ? rows[i + 1].x : Double.infinity
        return [DurationText.text(Int64(min(9e18, max(0, row.x))))]
          + lines.map { line in
            let inside = line.points.filter { $0.x >= row.x && $0.x < end }
            guard !inside.isEmpty else { return line.points.last { $0.x <= row.x }.map { value($0.y) } ?? "—" }
            return value(inside.reduce(0) { $0 + $1.y } / Double(inside.count))
          }
      }, texts: [])
  }

  // MARK: Sizes, offsets

  func sizes(_ page: inout HTMLWriter) {
    let bounds = Set(runs.flatMap { $0.report.sizeClasses.prefix(40).map { $0.upToBytes ?? .max } }).sorted()
    guard !bounds.isEmpty else { return }
    page.heading("Request sizes")
    func row(_ run: Run, _ bound: UInt64) -> ReplayReport.SizeClass? { run.report.sizeClasses.first { ($0.upToBytes ?? .max) == bound } }
    func name(_ bound: UInt64) -> String {
      bound == 0 ? "no bytes" : bound == .max ? "larger" : "≤ \(AxisLabel.bytes(Double(bound), .iec))"
    }
    let chart = BarChart(
      bars: bounds.map { bound in
        func label(_ run: Run) -> String {
          row(run, bound).map { "\($0.requests), p50 \(PageTables.time($0.service.histogram, 0.5))" } ?? "0"
        }
        let one = BarChart.Bar(name: name(bound), value: Double(row(first, bound)?.requests ?? 0), label: label(first))
        guard isDiff else { return one }
        return BarChart.Bar(
          name: one.name, value: one.value, label: "A \(one.label)",
          second: (Double(row(runs[1], bound)?.requests ?? 0), "B \(label(runs[1]))"))
      })
    let table = PageTable(
      header: (isDiff ? ["size", "run"] : ["size"]) + ["requests", "p50", "p99", "max"],
      rows: bounds.flatMap { bound in
        runs.compactMap { run in
          row(run, bound).map { row in
            let service = row.service.histogram
            return [name(bound)] + (run.name.map { [$0] } ?? []) + [
              String(row.requests), PageTables.time(service, 0.5), PageTables.time(service, 0.99),
              service.maximum.map(DurationText.text) ?? "—",
            ]
          }
        }
      }, texts: isDiff ? [0, 1] : [0])
    page.figure(
      "Requests by size", "Number of requests by size, with the median of their service latency.", chart.area, table: table
    ) { chart.draw(&$0) }
  }

  /// The offsets are the trace's: one picture serves both runs of a comparison.
  func offsets(_ page: inout HTMLWriter) {
    guard let map = runs.lazy.compactMap({ OffsetPicture($0.report.offsetMap) }).first else { return }
    page.heading("Offsets over time")
    let area = PlotArea(height: 260, left: 84)
    let x = PlotScale(.linear, values: [0, map.durationNanoseconds], from: area.x0, to: area.x1)
    let y = PlotScale(.linear, values: [0, map.extentBytes], from: area.y0, to: area.y1)
    for (name, hue, counts) in [("read", HeatMapChart.Hue.first, map.reads), ("written", .second, map.writes)] {
      guard let largest = counts.max(), largest > 0 else { continue }
      let chart = HeatMapChart(
        area: area, name: name, hue: hue, columns: map.columns, rows: map.rows, counts: counts, x: x,
        xTicks: x.ticks(8, label: AxisLabel.duration), xName: "recorded time", y: y,
        yTicks: y.ticks(5, base: units.sizes.base) { AxisLabel.bytes($0, units.sizes) }, largest: largest)
      let total = counts.reduce(0.0) { $0 + Double($1) }
      page.figure(
        hue == .first ? "Reads by offset and time" : "Writes by offset and time",
        "Offsets from bottom to top, the files one after another; a row is \(ByteCount.text(map.rowBytes, units.sizes)), a column "
          + "\(DurationText.text(map.columnNanoseconds)) of recorded time. \(AxisLabel.count(total)) requests by cell.", area
      ) { chart.draw(&$0) }
    }
  }
}

/// The cells of an offset map, checked: a report may come from anywhere.
struct OffsetPicture {
  let columns: Int
  let rows: Int
  let columnNanoseconds: Int64
  let rowBytes: UInt64
  /// Counts by column, then row; row 0 holds the first bytes.
  let reads: [UInt64]
  let writes: [UInt64]

  var durationNanoseconds: Double { Double(columns) * Double(columnNanoseconds) }
  var extentBytes: Double { Double(rows) * Double(rowBytes) }

  /// Nil without a map, or for one that is no grid.
  init?(_ grid: ReplayReport.OffsetGrid?) {
    guard let grid, (1...ReplayReport.OffsetGrid.maximumColumns).contains(grid.columns),
      (1...ReplayReport.OffsetGrid.maximumRows).contains(grid.rows), grid.columnNanoseconds > 0, grid.rowBytes > 0
    else { return nil }
    columns = grid.columns
    rows = grid.rows
    columnNanoseconds = grid.columnNanoseconds
    rowBytes = grid.rowBytes
    func counts(_ cells: [UInt64]) -> [UInt64] {
      var counts = [UInt64](repeating: 0, count: grid.columns * grid.rows)
      for i in stride(from: 0, to: cells.count - 2, by: 3) where cells[i] < UInt64(grid.columns) && cells[i + 1] < UInt64(grid.rows) {
        counts[Int(cells[i]) * grid.rows + Int(cells[i + 1])] &+= cells[i + 2]
      }
      return counts
    }
    reads = counts(grid.reads)
    writes = counts(grid.writes)
  }
}
