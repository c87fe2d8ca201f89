import CTrace
import Foundation
import Testing

@testable import TraceKit

@Suite struct HTMLWriterTests {
  @Test(arguments: [
    ("<script>", "&lt;script&gt;"), ("a\" onload='x'", "a&quot; onload=&#39;x&#39;"), ("a&amp;b", "a&amp;amp;b"),
    // With a combining mark the quote is part of a character of its own; it still ends an attribute.
    ("\"\u{301}><", "&quot;\u{301}&gt;&lt;"), ("<\u{338}b>", "&lt;\u{338}b&gt;"), ("a\u{1b}[31m\nb\u{0}", "a\\x1b[31m\\x0ab\\x00"),
    ("\u{202E}txt.exe", "\\xe2\\x80\\xaetxt.exe"), ("C:\\x0a", "C:\\x0a"), ("日本 é", "日本 é"),
  ])
  func textIsOnlyEverText(_ text: String, _ expected: String) {
    #expect(HTMLWriter.escaped(text) == expected)
    var writer = HTMLWriter()
    writer.element("p", ["title": text], text: text)
    #expect(writer.markup == "<p title=\"\(expected)\">\(expected)</p>")
  }

  @Test func longTextsAreCutInTheMiddle() {
    let text = "/" + String(repeating: "a", count: 5000) + "/end"
    let clipped = HTMLWriter.clipped(text, 100)
    #expect(clipped.count == 103 && clipped.hasPrefix("/aaa") && clipped.hasSuffix("/end") && clipped.contains(" … "))
    #expect(HTMLWriter.clipped("short", 100) == "short")
  }
}

@Suite struct PlotTests {
  @Test func ticksAreRoundAndInside() {
    let linear = PlotScale(.linear, values: [0, 873], from: 0, to: 100)
    #expect(linear.ticks(5, label: AxisLabel.count).map(\.label) == ["0", "200", "400", "600", "800"])
    let log = PlotScale(.logarithmic, values: [12_000, 2_000_000], from: 0, to: 100)
    #expect(log.ticks(5, label: AxisLabel.duration).map(\.label).first == "100 µs")
    #expect(log.position(12_000) == 0 && log.position(2_000_000) == 100 && log.position(1) == 0)
    let bytes = PlotScale(.linear, values: [0, 300.0 * 1_048_576], from: 0, to: 1)
    #expect(bytes.ticks(5, base: 1024) { AxisLabel.bytes($0, .iec) }.map(\.label) == ["0 B", "64 MiB", "128 MiB", "192 MiB", "256 MiB"])
  }

  @Test(arguments: [[], [Double.nan], [.infinity, 1], [0, 0], [-5, -5], [1e300, 1e300], [1e-300, 1e300]])
  func extremeValuesGiveAxesAllTheSame(_ values: [Double]) {
    for kind in [PlotScale.Kind.linear, .logarithmic] {
      var scale = PlotScale(kind, values: values, from: 10, to: 20)
      scale.round()
      let ticks = scale.ticks(5, label: AxisLabel.count)
      #expect(ticks.count <= 700)
      for value in values + ticks.map(\.value) { #expect((10...20).contains(scale.position(value))) }
    }
  }

  @Test func aPictureHoldsItsPixels() throws {
    var image = PaletteImage(
      width: 3, height: 2,
      palette: [.init(red: 0, green: 0, blue: 0, opacity: 0), .init(red: 1, green: 2, blue: 3, opacity: 255)])
    image[2, 1] = 1
    let png = image.png
    #expect(png.starts(with: [0x89, 0x50, 0x4E, 0x47]))
    // IHDR is 25 bytes behind the signature, PLTE 12 + 6, tRNS 12 + 2; then IDAT.
    let start = 8 + 25 + 18 + 14
    let length = png[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
    #expect(Array(png[start + 4..<start + 8]) == Array("IDAT".utf8))
    var rows = [UInt8](repeating: 9, count: 100)
    var count = UInt(rows.count)
    var data = Array(png[start + 8..<start + 8 + length])
    #expect(uncompress(&rows, &count, &data, UInt(length)) == Z_OK)
    #expect(Array(rows.prefix(Int(count))) == [0, 0, 0, 0, 0, 0, 0, 1])
    #expect(Base64.text(Array("Ma".utf8)) == "TWE=" && Base64.text(Array("Man".utf8)) == "TWFu" && Base64.text([]) == "")
  }

  @Test func sparklinesAndBarsFollowTheirValues() {
    let plots = TerminalPlots(style: TerminalStyle())
    let points = [1, 2, 4, 8, 8].enumerated().map { LineChart.Point(x: Double($0.offset), y: Double($0.element)) }
    #expect(plots.sparkline(points, width: 10) == "▂▃▅█")
    #expect(TerminalPlots.resampled(points, to: 2) == [1.5, 6])
    #expect(plots.bar(0.5, width: 3) == "█▌")
    #expect(plots.bar(7, width: 2) == "██" && plots.bar(-1, width: 2) == "" && plots.bar(.nan, width: 2) == "")
    let plain = TerminalPlots(style: TerminalStyle(isUnicode: false))
    #expect(plain.sparkline(points, width: 10) == "..=#" || plain.sparkline(points, width: 10) == ".-=#")
    #expect(plain.bar(0.5, width: 4) == "##")
  }
}

@Suite struct TerminalStyleTests {
  private func style(_ environment: [String: String], terminal: Bool = true, window: Int = 0, _ choice: TerminalStyle.ColorChoice = .auto)
    -> TerminalStyle
  {
    .of(isTerminal: terminal, windowColumns: window, color: choice, units: UnitChoice()) { environment[$0] }
  }

  @Test func coloursNeedATerminalThatWantsThem() {
    #expect(style(["TERM": "xterm"]).isColored)
    #expect(!style(["TERM": "xterm"], terminal: false).isColored)
    #expect(!style(["TERM": "dumb"]).isColored && !style([:]).isColored)
    #expect(!style(["TERM": "xterm", "NO_COLOR": "1"]).isColored)
    #expect(style(["TERM": "xterm", "NO_COLOR": ""]).isColored)
    #expect(style(["NO_COLOR": "1"], terminal: false, .always).isColored)
    #expect(!style(["TERM": "xterm"], .never).isColored)
  }

  @Test func charactersAndWidthFollowTheEnvironment() {
    #expect(style(["LANG": "de_DE.UTF-8"]).isUnicode && style(["LC_ALL": "C.utf8", "LANG": "C"]).isUnicode)
    #expect(!style(["LC_ALL": "C", "LANG": "de_DE.UTF-8"]).isUnicode && !style([:]).isUnicode)
    #expect(style([:], window: 133).columns == 133)
    #expect(style(["COLUMNS": "72"], window: 133).columns == 72)
    #expect(style(["COLUMNS": "nonsense"]).columns == 100)
    #expect(style(["COLUMNS": "1"]).columns == 40 && style(["COLUMNS": "99999"]).columns == 400)
  }

  @Test func whatHasNoStandInIsShownByteByByte() {
    #expect(TerminalStyle(isUnicode: false).fitted("5 µs × 日") == "5 us x \\xe6\\x97\\xa5")
  }
}

@Suite struct ReportTextTests {
  @Test(arguments: [60, 80, 100, 160], [true, false])
  func picturesAndTablesFitTheWidth(_ columns: Int, _ unicode: Bool) {
    let text = SampleReport.report().text(TerminalStyle(isUnicode: unicode, columns: columns))
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    // Sentences and paths may be longer; what is drawn may not.
    let drawn = lines.filter { line in
      [
        "lag ", "service ", "response ", "recorded ", "(log", "            p", "            max", "requests/s", "read", "written/s",
        "fsync ", "           │", "           |", "slowest",
      ]
      .contains { line.hasPrefix($0) }
    }
    #expect(drawn.count > 25)
    for line in drawn { #expect(line.count <= columns, "\(line)") }
    if !unicode { #expect(text.utf8.allSatisfy { $0 < 0x80 }) }
    #expect(!text.contains("\u{1b}"))
  }

  @Test func coloursAreEscapeSequencesAroundPictures() {
    let text = SampleReport.report().text(TerminalStyle(isColored: true))
    #expect(text.contains("\u{1b}[38;5;32m█"))
    let plain = SampleReport.report().text(TerminalStyle())
    let stripped = text.replacing(/\u{1b}\[[0-9;]*m/, with: "")
    let same = stripped.replacing(": reads, writes\n", with: "\n") == plain
    #expect(same)
  }

  @Test func unitsAreChosen() {
    let report = SampleReport.report()
    #expect(report.text(TerminalStyle()).contains("257.5 MiB read, 128.7 MiB written, 6.77 MB/s"))
    #expect(report.text(TerminalStyle(units: UnitChoice(.si))).contains("270.0 MB read, 135.0 MB written, 6.77 MB/s"))
    #expect(report.text(TerminalStyle(units: UnitChoice(.iec))).contains("128.7 MiB written, 6.46 MiB/s"))
  }

  @Test func plotsCanBeLeftOut() {
    let text = SampleReport.report().text(TerminalStyle(showsPlots: false))
    #expect(!text.contains("█") && !text.contains("offsets  ") && text.contains("service "))
  }
}

@Suite struct ReportPageTests {
  @Test func thePageHasEveryPartInItsOrder() throws {
    let html = SampleReport.report().html()
    var place = html.startIndex
    for part in [
      "Degraded", "<h2>Conditions", "<h2>Latency by percentile", "<h2>Latency over the run", "<h2>Rates over time",
      "<h2>Requests in flight",
      "<h2>Lag", "<h2>Request sizes", "<h2>Offsets over time", "<h2>Files", "<h2>Slowest requests", "<h2>Host", "<h2>Errors",
    ] {
      let found = try #require(html.range(of: part, range: place..<html.endIndex), "\(part)")
      place = found.upperBound
    }
    #expect(html.components(separatedBy: "<svg").count - 1 == html.components(separatedBy: "</desc>").count - 1)
    #expect(html.contains("default-src 'none'") || html.contains("default-src &#39;none&#39;"))
    #expect(!html.contains("<script"))
    // The only addresses are the namespace of SVG and pictures inside the page.
    let addresses = Set(html.matches(of: /(?:href|src|xmlns)="([^";]*)/).map { String($0.output.1) })
    #expect(addresses == ["http://www.w3.org/2000/svg", "data:image/png", "data:,"])
  }

  @Test func theComparisonHasEveryPartInItsOrder() throws {
    let (a, b) = (SampleReport.report(timed: false, clean: true), SampleReport.report(factor: 1.2, timed: false, seed: 2, clean: true))
    let html = try ReportDiff(a, b).html(a: a, b: b)
    var place = html.startIndex
    for part in [
      "Regression", "<h2>What was compared", "<h2>Change of latency", "<h2>Totals", "<h2>Latency by percentile", "<h2>Latency over the run",
      "<h2>Rates over time", "<h2>Requests in flight", "<h2>Request sizes", "<h2>Offsets over time", "<h2>By operation",
      "<h2>Slowest requests of A", "<h2>Differences of host", "<h2>Errors",
    ] {
      let found = try #require(html.range(of: part, range: place..<html.endIndex), "\(part)")
      place = found.upperBound
    }
    #expect(html.contains("▲ +20 %"))
    let markdown = try ReportDiff(a, b).markdown()
    #expect(markdown.contains("▲ **regression**") && markdown.contains("| p50 |"))
    let bare = try ReportDiff(a, b).html(a: nil, b: nil)
    #expect(bare.contains("<h2>Latency by percentile") && !bare.contains("<h2>Rates over time"))
  }

  /// The largest report there can be, and one that somebody has blown up by hand.
  @Test func aPageStaysBelowOneMegabyte() throws {
    let path = "/" + String(repeating: "<\"'&\u{1b}\u{202E}", count: 1000)
    var report = SampleReport.report(intervals: 600, path: path, clean: true)
    report.files = (0..<5000).map { _ in report.files[0] }
    report.worstRequests = (0..<5000).map { _ in report.worstRequests![1] }
    report.notes = Array(repeating: path, count: 5000)
    report.errors = Array(repeating: .init(operation: path, errno: 5, message: path, requests: .max), count: 5000)
    report.fidelity.reasons = Array(repeating: path, count: 5000)
    report.fidelity.notReplayed = Array(repeating: .init(reason: path, requests: .max), count: 5000)
    report.options = Dictionary(uniqueKeysWithValues: (0..<5000).map { ("\($0)\(path)", path) })
    report.windows = (0..<600).map { report.windows[$0 % 30] }
    report.operations = (0..<600).map { report.operations[$0 % 3] }
    report.intervals = (0..<60_000).map { report.intervals[$0 % 600] }
    report.trace.path = path
    #expect(report.html().utf8.count < 1_000_000)
    let diff = try ReportDiff(report, report, allow: Set(ReportDiff.refusals))
    #expect(diff.html(a: report, b: report).utf8.count < 1_000_000)
  }

  @Test func reportsWithAlmostNothingInThemHavePages() throws {
    var report = SampleReport.report(clean: true)
    let empty = LatencyTriple(LatencySet())
    report.latency = empty
    report.operations = []
    report.sizeClasses = []
    report.files = []
    report.windows = []
    report.intervals = []
    report.worstRequests = nil
    report.recordedIntervals = nil
    report.recordedLatency = nil
    report.offsetMap = .init(columns: 900, rows: -1, columnNanoseconds: 0, rowBytes: 0, reads: [[1]], writes: [])
    report.run.elapsedNanoseconds = 0
    report.run.requests = 0
    #expect(report.html().contains("</html>"))
    #expect(report.text(TerminalStyle()).contains("fidelity"))
    #expect(!report.hdrLog.contains("Tag="))
    #expect(!report.csv.isEmpty && !report.markdown().isEmpty && !report.prometheus.isEmpty)
  }

  @Test func numbersBeyondReasonDoNotStopAnything() throws {
    var report = SampleReport.report(clean: true)
    report.run.iops = 1e308
    report.run.elapsedNanoseconds = .max
    report.run.requests = .max
    report.run.bytesRead = .max
    report.createdUnixNanoseconds = .min
    report.fidelity.lateShare = -1e300
    report.fidelity.replayedInFlight = 1e300
    report.intervalNanoseconds = 1
    for i in report.intervals.indices {
      report.intervals[i].startNanoseconds = i % 2 == 0 ? .max : .min
      report.intervals[i].requests = .max
      report.intervals[i].bytesRead = .max
      report.intervals[i].serviceNanoseconds = .max
      report.intervals[i].maximumLagNanoseconds = i % 2 == 0 ? .max : .min
    }
    for i in report.recordedIntervals!.indices { report.recordedIntervals![i].startNanoseconds = .min }
    report.recordedIntervalNanoseconds = .max
    report.trace.durationNanoseconds = .min
    report.worstRequests![0].atNanoseconds = .min
    report.offsetMap!.reads = [[0, 0, .max], [119, 63, .max], [.max, .max, 1]]
    report.offsetMap!.rowBytes = .max
    report.offsetMap!.columnNanoseconds = .max
    report.sizeClasses[0].requests = .max
    #expect(report.html().contains("</html>"))
    #expect(!report.text(TerminalStyle()).isEmpty && !report.csv.isEmpty && !report.hdrLog.isEmpty && !report.prometheus.isEmpty)
    let diff = try ReportDiff(report, report)
    #expect(diff.html(a: report, b: report).contains("</html>"))
    #expect(!diff.text(TerminalStyle()).isEmpty)
  }

  @Test func reportsOfTheFirstSchemaAreRead() throws {
    let report = SampleReport.report()
    var object = try #require(JSONSerialization.jsonObject(with: Data(ReportFile.json(report))) as? [String: Any])
    for key in ["worst_requests", "recorded_intervals", "recorded_interval_ns", "recorded_latency", "offset_map"] { object[key] = nil }
    object["schema"] = ["name": "trace-replay-report", "version": "1.0.0"]
    object["intervals"] = (object["intervals"] as? [[String: Any]])?.map { row in
      row.filter { !["bytes_read", "bytes_written", "service_ns"].contains($0.key) }
    }
    let folder = Folder()
    try JSONSerialization.data(withJSONObject: object).write(to: URL(fileURLWithPath: folder("old.json")))
    let old = try ReportFile.report(folder("old.json"))
    #expect(old.worstRequests == nil && old.offsetMap == nil && old.intervals[0].bytesRead == nil)
    let html = old.html()
    #expect(html.contains("read and written") && !html.contains("Offsets over time") && !html.contains("Requests in flight</h2>"))
  }
}

@Suite struct ReportExportTests {
  @Test func hdrPlacesAreThoseOfTheFormat() {
    // With a lowest value of 1 and 2048 places in the first bucket, small values are their own place, and each further bucket adds 1024.
    #expect(HdrLog.index(0) == 0 && HdrLog.index(2047) == 2047)
    #expect(HdrLog.index(2048) == 2048 && HdrLog.index(2049) == 2048 && HdrLog.index(4095) == 3071 && HdrLog.index(4096) == 3072)
    #expect(HdrLog.index(1 << 44) == 2 * 1024 + 33 * 1024)
  }

  @Test(arguments: [
    ("plain", "plain"), ("a,b", "\"a,b\""), ("say \"x\"", "\"say \"\"x\"\"\""), ("=1+2", "'=1+2"), ("@SUM(A1)", "'@SUM(A1)"), ("-1", "'-1"),
    ("", ""), (" x", "\" x\""),
  ])
  func cellsOfCSVAreQuotedAndNoFormulas(_ text: String, _ cell: String) { #expect(CSVReport.cell(text) == cell) }

  @Test(arguments: [
    ("a|b", "`a\\x7cb`"), ("`rm`", "`\\x60rm\\x60`"), ("@owner #1 <b>", "`@owner #1 <b>`"), ("a\nb", "`a\\x0ab`"), ("", "—"),
  ])
  func markdownShowsTextsAsCode(_ text: String, _ code: String) { #expect(MarkdownText.code(text) == code) }

  @Test func labelsOfPrometheusAreEscaped() {
    #expect(PrometheusText.escaped("a\"b\\c\nd") == "a\\\"b\\\\c\\nd")
  }

  @Test func twoDocumentsNeedTwoPlaces() {
    #expect(throws: TraceError.self) { try ReportDocuments(json: "-", markdown: "-").check(overwrite: false) }
    #expect(throws: TraceError.self) { try ReportDocuments(html: "/tmp/x", csv: "/tmp/x").check(overwrite: true) }
    #expect(ReportDocuments(json: "-").takesStandardOutput && !ReportDocuments(json: "/tmp/x").takesStandardOutput)
  }
}

/// Names and texts that are markup, orders to a terminal or formulas somewhere; in every format they are text.
@Suite struct HostileReportTests {
  static let payload =
    "\"'><script>document.title='taken'</script><img src=x onerror=alert(1)>`|\u{1b}]0;taken\u{7}\u{1b}[2J\r\n=1+1,\u{0}\u{85}\u{202E}"

  /// The same report with the payload at the end of every text except those that a reader checks.
  static func hostile(_ report: ReplayReport) throws -> ReplayReport {
    func spoiled(_ value: Any, _ path: String) -> Any {
      switch value {
      case let text as String: path.hasPrefix(".schema") || path == ".fidelity.verdict" || path == ".trace.digest" ? text : text + payload
      case let list as [Any]: list.map { spoiled($0, path + "[]") }
      case let object as [String: Any]: object.reduce(into: [String: Any]()) { $0[$1.key] = spoiled($1.value, path + "." + $1.key) }
      default: value
      }
    }
    let object = try JSONSerialization.jsonObject(with: Data(ReportFile.json(report)))
    var hostile = try JSONDecoder().decode(ReplayReport.self, from: JSONSerialization.data(withJSONObject: spoiled(object, "")))
    hostile.options = [payload: payload, "cache" + payload: "cold"]
    return hostile
  }

  static func controls(_ text: String, allowed: [Unicode.Scalar] = ["\n"]) -> [UInt32] {
    text.unicodeScalars.filter { scalar in
      !allowed.contains(scalar) && [.control, .format, .lineSeparator, .paragraphSeparator].contains(scalar.properties.generalCategory)
    }.map(\.value)
  }

  @Test func noFormatLetsATextFromOutsideBeMoreThanText() throws {
    let report = try Self.hostile(SampleReport.report())
    let (a, b) = (
      try Self.hostile(SampleReport.report(timed: false, clean: true)),
      try Self.hostile(SampleReport.report(factor: 1.3, timed: false, clean: true))
    )
    let diff = try ReportDiff(a, b, allow: Set(ReportDiff.refusals))
    for html in [report.html(), diff.html(a: a, b: b)] {
      #expect(Self.controls(html).isEmpty)
      #expect(html.contains("&lt;script&gt;") && !html.contains("<script") && !html.contains("<img"))
      // Every attribute is quoted, and no quote from outside ends one.
      #expect(html.matches(of: /\son[a-z]+=["']/).isEmpty)
    }
    for style in [TerminalStyle(), TerminalStyle(isUnicode: false, columns: 60)] {
      #expect(Self.controls(report.text(style)).isEmpty)
      #expect(Self.controls(diff.text(style)).isEmpty)
    }
    let coloured = report.text(TerminalStyle(isColored: true)).replacing(/\u{1b}\[[0-9;]*m/, with: "")
    #expect(Self.controls(coloured).isEmpty)
    #expect(Self.controls(report.csv, allowed: ["\r", "\n"]).isEmpty)
    #expect(Self.controls(report.hdrLog).isEmpty && Self.controls(report.prometheus).isEmpty)
    for markdown in [report.markdown(), diff.markdown()] {
      #expect(Self.controls(markdown).isEmpty)
      // Outside of code there is no markup but our own.
      let outside = markdown.replacing(/`[^`\n]*`/, with: "")
      #expect(!outside.contains("<script") && !outside.contains("<img") && !outside.contains("`"))
      let rows = outside.split(separator: "\n").filter { $0.hasPrefix("|") }
      #expect(!rows.isEmpty && rows.allSatisfy { $0.hasSuffix("|") })
    }
  }

  @Test func everyLineOfCSVHasFourCells() throws {
    let csv = try Self.hostile(SampleReport.report()).csv
    var (cells, quoted, lines) = (1, false, 0)
    for byte in csv.utf8 {
      switch byte {
      case 0x22: quoted.toggle()
      case 0x2C where !quoted: cells += 1
      case 0x0A where !quoted:
        #expect(cells == 4)
        (cells, lines) = (1, lines + 1)
      default: break
      }
    }
    #expect(!quoted && lines > 500)
  }
}
