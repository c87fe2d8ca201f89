import Foundation
import Testing

/// Where Chromium is, under one of the names that distributions give it.
private let chromium = installed("chromium") ?? installed("chromium-browser") ?? installed("google-chrome")

/// What Chromium makes of reports: pictures, printed pages, and what it complains about or asks the network for.
@Suite(.serialized, .enabled(if: chromium != nil, "chromium is not installed")) struct ReportBrowserTests {
  let folder = try! TemporaryFolder()

  /// What a page led to.
  private struct Visit {
    var result: CommandResult
    /// Lines of the console, complaints about the content security policy among them.
    var console: [String]
    /// Addresses that were asked for, without those of the browser's own maker.
    var addresses: Set<String>
  }

  private enum Look { case light, dark, withoutScripts }

  /// Opens `page` in a headless browser with a profile of its own; `action` says what is wanted of it.
  private func visit(_ page: String, _ action: [String], look: Look = .light) throws -> Visit {
    let profile = folder / "profile-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: profile + "/Default", withIntermediateDirectories: true)
    if look == .withoutScripts {
      try Data(#"{"profile":{"default_content_setting_values":{"javascript":2}}}"#.utf8).write(
        to: URL(fileURLWithPath: profile + "/Default/Preferences"))
    }
    let network = folder / "network.json"
    let result = try run(
      try #require(chromium),
      [
        "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync", "--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr", "--log-net-log=\(network)", "--user-data-dir=\(profile)", "--force-device-scale-factor=1",
      ] + (geteuid() == 0 ? ["--no-sandbox"] : []) + (look == .dark ? ["--blink-settings=preferredColorScheme=0"] : []) + action + [
        "file://" + page
      ], timeoutSeconds: 180)
    let log = try String(contentsOfFile: network, encoding: .utf8)
    let addresses = log.matches(of: /"url":"([a-z]+:\/\/[^"]*)"/).map { String($0.output.1) }.filter { address in
      guard let host = URL(string: address)?.host else { return !address.hasPrefix("file:") && !address.hasPrefix("chrome") }
      return !["google.com", "googleapis.com", "gvt1.com"].contains { host == $0 || host.hasSuffix("." + $0) }
    }
    return Visit(
      result: result, console: result.stderr.split(separator: "\n").filter { $0.contains("CONSOLE") }.map(String.init),
      addresses: Set(addresses))
  }

  private func bytes(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: folder / name)) }

  /// A report, a comparison and a report full of markup, as pages.
  private func makePages() throws -> [String: String] {
    let runs = try SampleRuns.shared.get()
    try spoil(runs.timed).write(to: URL(fileURLWithPath: folder / "hostile.json"))
    var pages: [String: String] = [:]
    for (name, arguments) in [
      ("run", ["report", runs.timed]), ("diff", ["diff", runs.a, runs.b]), ("hostile", ["report", folder / "hostile.json"]),
      ("hostile-diff", ["diff", folder / "hostile.json", folder / "hostile.json", "--allow-different", "fidelity"]),
    ] {
      let page = folder / "\(name).html"
      let result = try run(traceReplay, arguments + ["--html", page])
      try #require(result.status == 0, "\(result.stderr)")
      pages[name] = page
    }
    return pages
  }

  /// Markup that would change the title or ask for a file, were it ever more than text.
  private static let payload =
    "\"'></title></style></script><script>document.title='taken'</script><img src=http://payload.test/i onerror=\"document.title='taken'\">"
    + "<svg onload=document.title='taken'><link rel=stylesheet href=http://payload.test/s>\u{1b}[31m\n"

  private func spoil(_ path: String) throws -> Data {
    func spoiled(_ value: Any, _ path: String) -> Any {
      switch value {
      case let text as String: path.hasPrefix(".schema") || path == ".fidelity.verdict" ? text : Self.payload + text
      case let list as [Any]: list.map { spoiled($0, path + "[]") }
      case let object as [String: Any]: object.reduce(into: [String: Any]()) { $0[$1.key] = spoiled($1.value, path + "." + $1.key) }
      default: value
      }
    }
    let report = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
    return try JSONSerialization.data(withJSONObject: spoiled(report, ""))
  }

  @Test func pagesShowThemselvesWithoutNetworkScriptsOrComplaints() throws {
    let pages = try makePages()
    for (name, page) in pages {
      let visit = try visit(page, ["--dump-dom"])
      #expect(visit.result.status == 0 && visit.console.isEmpty, "\(name): \(visit.console)")
      #expect(visit.addresses.isEmpty, "\(name): \(visit.addresses)")
      let document = visit.result.stdout
      #expect(!document.contains("<script") && !document.contains("<title>taken"), "\(name)")
      #expect(!document.contains("<img") && !document.contains("payload.test/i\" onerror="), "\(name)")
      // The parser saw as many figures as were written: nothing broke out of anything.
      let written = try String(contentsOfFile: page, encoding: .utf8)
      for tag in ["<svg", "<figure", "<h2", "<table", "<details", "<image"] {
        #expect(document.components(separatedBy: tag).count == written.components(separatedBy: tag).count, "\(name): \(tag)")
      }
      if name.hasPrefix("hostile") { #expect(document.contains("&lt;script&gt;document.title='taken'")) }
    }
  }

  /// The means of the test above find what they look for.
  @Test func aPageThatDoesTheseThingsIsFoundOut() throws {
    let page = try folder.write(
      "bad.html", "<title>x</title><script>document.title='taken'; console.log('hello')</script><img src=http://payload.test/i>")
    let visit = try visit(page, ["--dump-dom"])
    #expect(visit.result.stdout.contains("<title>taken") && visit.console.contains { $0.contains("hello") })
    #expect(visit.addresses.contains { $0.contains("payload.test") })
    let quiet = try self.visit(page, ["--screenshot=\(folder / "quiet.png")"], look: .withoutScripts)
    #expect(quiet.console.isEmpty)
  }

  @Test func pagesLookTheSameWithoutScriptsAndFollowDarkModeAndPaper() throws {
    let pages = try makePages()
    for name in ["run", "diff"] {
      let page = try #require(pages[name])
      for (look, file) in [(Look.light, "light"), (.withoutScripts, "plain"), (.dark, "dark")] {
        let visit = try visit(page, ["--window-size=1000,3000", "--screenshot=\(folder / "\(name)-\(file).png")"], look: look)
        #expect(visit.result.status == 0 && visit.console.isEmpty && visit.addresses.isEmpty, "\(name), \(file): \(visit.console)")
      }
      let light = try bytes("\(name)-light.png")
      let same = try light == bytes("\(name)-plain.png")
      #expect(same, "\(name)")
      let different = try light != bytes("\(name)-dark.png")
      #expect(different, "\(name)")
      // An empty page of this size is 10 KB.
      #expect(light.count > 60_000, "\(name): \(light.count) bytes")
      let paper = try visit(page, ["--print-to-pdf=\(folder / "\(name).pdf")", "--no-pdf-header-footer"])
      #expect(paper.result.status == 0 && paper.console.isEmpty)
      let pdf = try bytes("\(name).pdf")
      #expect(pdf.starts(with: Data("%PDF".utf8)) && pdf.count > 40_000, "\(name): \(pdf.count) bytes")
    }
  }
}
