import Foundation
import Testing

/// The package's root.
private let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  .path

/// Reports of replays of a sample, made once.
final class SampleRuns: @unchecked Sendable {
  static let shared = Result { try SampleRuns() }
  private let folder: TemporaryFolder
  /// A timed one, and two at maximum speed.
  var timed: String { folder / "timed.json" }
  var a: String { folder / "a.json" }
  var b: String { folder / "b.json" }

  private init() throws {
    folder = try TemporaryFolder()
    let trace = package + "/samples/sqlite3.iotrace"
    for (name, speed) in [("timed", "20x"), ("a", "max"), ("b", "max")] {
      let options = speed == "max" ? ["--engine", "null", "--order", "depth"] : ["--engine", "sync"]
      let result = try run(traceReplay, ["run", trace, "--speed", speed, "-q", "--json", folder / "\(name).json"] + options)
      try #require(result.status == 0, "\(result.stderr)")
    }
  }
}

/// A Python that has `modules`, or nil: that on PATH, Debian's own, or one made below the build folder with what PyPI has.
private enum Python {
  private static let lock = NSLock()
  private static let environment = package + "/.build/test-python"

  static func with(_ modules: [String: String]) -> String? {
    lock.withLock {
      let imports = "import " + modules.keys.sorted().joined(separator: ", ")
      func works(_ python: String) -> Bool { (try? run(python, ["-c", imports]))?.status == 0 }
      let own = environment + "/bin/python3"
      for python in [installed("python3"), "/usr/bin/python3", own].compactMap({ $0 }) where works(python) { return python }
      guard let python = installed("python3") else { return nil }
      if access(own, X_OK) != 0 { _ = try? run(python, ["-m", "venv", environment]) }
      _ = try? run(own, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"] + modules.values.sorted(), timeoutSeconds: 180)
      return works(own) ? own : nil
    }
  }
}

@Suite struct ReportOutputTests {
  let folder = try! TemporaryFolder()

  @Test func everyFormatIsWrittenAndTheTextStaysOnStandardOutput() throws {
    let runs = try SampleRuns.shared.get()
    let files = ["html", "hlog", "csv", "markdown", "prometheus"].map { ($0, folder / "out.\($0)") }
    let result = try run(traceReplay, ["report", runs.timed] + files.flatMap { ["--\($0.0)", $0.1] })
    #expect(result.status == 0 && result.stderr.isEmpty, "\(result.stderr)")
    #expect(result.stdout.contains("fidelity"))
    let heads = ["html": "<!DOCTYPE html>", "hlog": "#[", "csv": "group,item,figure,value", "markdown": "### ", "prometheus": "# HELP"]
    for (format, path) in files {
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(text.hasPrefix(heads[format]!), "\(format)")
    }
  }

  @Test func standardOutputIsOneDocument() throws {
    let runs = try SampleRuns.shared.get()
    let markdown = try run(traceReplay, ["report", runs.timed, "--markdown", "-"])
    #expect(markdown.stdout.hasPrefix("### ") && !markdown.stdout.contains("fidelity    "))
    let both = try run(traceReplay, ["report", runs.timed, "--markdown", "-", "--csv", "-"])
    #expect(both.status == 1 && both.stdout.isEmpty && both.stderr.contains("--csv and --markdown"))
  }

  @Test func filesThatExistStayAsTheyAreWithoutForce() throws {
    let runs = try SampleRuns.shared.get()
    let kept = try folder.write("kept.html", "mine")
    let refused = try run(traceReplay, ["report", runs.timed, "--html", kept, "--csv", folder / "new.csv"])
    #expect(refused.status == 1 && refused.stderr.contains("--force"))
    #expect(try String(contentsOfFile: kept, encoding: .utf8) == "mine")
    #expect(access(folder / "new.csv", F_OK) != 0)
    let itself = try run(traceReplay, ["report", runs.timed, "--html", runs.timed, "--force"])
    #expect(itself.status == 1 && itself.stderr.contains("itself"))
    #expect(try run(traceReplay, ["report", runs.timed, "--html", kept, "--force"]).status == 0)
  }

  @Test func aRunWritesTheSameDocumentsAsItsReport() throws {
    let trace = package + "/samples/tar.iotrace"
    let result = try run(
      traceReplay,
      [
        "run", trace, "--engine", "null", "--speed", "max", "--order", "depth", "-q", "--json", folder / "r.json", "--html",
        folder / "r.html",
        "--hlog", folder / "r.hlog",
      ])
    #expect(result.status == 0, "\(result.stderr)")
    let again = try run(traceReplay, ["report", folder / "r.json", "--html", folder / "again.html", "--hlog", folder / "again.hlog"])
    #expect(again.status == 0 && again.stdout == result.stdout)
    for name in ["html", "hlog"] {
      let same =
        try String(contentsOfFile: folder / "r.\(name)", encoding: .utf8)
        == String(contentsOfFile: folder / "again.\(name)", encoding: .utf8)
      #expect(same, "\(name)")
    }
    let taken = try run(traceReplay, ["run", trace, "--engine", "null", "--html", trace, "--force"])
    #expect(taken.status == 1 && taken.stderr.contains("itself"))
  }

  @Test func theTextFollowsLocaleWidthAndColours() throws {
    let runs = try SampleRuns.shared.get()
    let plain = try run(traceReplay, ["report", runs.timed], environment: ["LC_ALL": "C", "COLUMNS": "72"])
    #expect(plain.stdout.utf8.allSatisfy { $0 < 0x80 && ($0 >= 0x20 || $0 == 0x0A) } && plain.stdout.contains("###"))
    let colour = try run(traceReplay, ["report", runs.timed, "--color", "always"], environment: ["LC_ALL": "C.UTF-8"])
    #expect(colour.stdout.contains("\u{1b}[38;5;32m█"))
    let piped = try run(traceReplay, ["report", runs.timed], environment: ["LC_ALL": "C.UTF-8", "TERM": "xterm"])
    #expect(!piped.stdout.contains("\u{1b}") && piped.stdout.contains("█"))
    let bare = try run(traceReplay, ["report", runs.timed, "--no-plots", "--units", "si"], environment: ["LC_ALL": "C.UTF-8"])
    #expect(!bare.stdout.contains("█") && !bare.stdout.contains("iB"))
  }

  @Test func aComparisonIsWrittenAsHTMLAndMarkdown() throws {
    let runs = try SampleRuns.shared.get()
    let result = try run(traceReplay, ["diff", runs.a, runs.b, "--html", folder / "d.html", "--markdown", "-"])
    #expect(result.status == 0 && result.stdout.hasPrefix("### Replay:"), "\(result.stderr)")
    let html = try String(contentsOfFile: folder / "d.html", encoding: .utf8)
    #expect(html.contains("Comparison: a.json against b.json") && html.contains("<h2>Rates over time"))
  }
}

@Suite struct ReportOracleTests {
  let folder = try! TemporaryFolder()

  /// Each key that is written is described, too: objects may have no others here.
  @Test(.enabled(if: Python.with(["jsonschema": "jsonschema"]) != nil, "the Python module jsonschema is neither installed nor to be had"))
  func reportsAndComparisonsFollowTheirSchema() throws {
    let python = try #require(Python.with(["jsonschema": "jsonschema"]))
    let runs = try SampleRuns.shared.get()
    for (name, arguments) in [("max", [runs.a, runs.b]), ("again", [runs.a, runs.a, "--fail-on", "p99>5%"])] {
      let result = try run(traceReplay, ["diff"] + arguments + ["--json", folder / "\(name).json"])
      #expect(result.status == 0, "\(result.stderr)")
    }
    let script = """
      import copy, json, sys
      from jsonschema import Draft202012Validator
      schema = json.load(open(sys.argv[1]))
      Draft202012Validator.check_schema(schema)
      def close(node):
          if isinstance(node, dict):
              if "properties" in node: node.setdefault("additionalProperties", False)
              for value in node.values(): close(value)
          elif isinstance(node, list):
              for value in node: close(value)
      closed = copy.deepcopy(schema)
      close(closed)
      for path in sys.argv[2:]:
          document = json.load(open(path))
          kind = document["schema"]["name"].rsplit("-", 1)[-1]
          for one in (schema, {**closed, "oneOf": [{"$ref": "#/$defs/" + kind}]}):
              for error in Draft202012Validator(one).iter_errors(document):
                  print(path, list(error.absolute_path), error.message[:300])
          for spoiled in ({**document, "notes": 5}, {k: v for k, v in document.items() if k != "notes"}):
              if Draft202012Validator(schema).is_valid(spoiled): print(path, "a spoiled document passes")
      print("checked", len(sys.argv) - 2)
      """
    let result = try run(
      python,
      ["-c", script, package + "/docs/report-schema.json", runs.timed, runs.a, folder / "max.json", folder / "again.json"])
    #expect(result.stdout == "checked 4\n", "\(result.stdout)\(result.stderr)")
  }

  @Test(.enabled(if: Python.with(["hdrh": "hdrhistogram"]) != nil, "the Python module hdrh is neither installed nor to be had"))
  func anIndependentReaderFindsTheSameLatenciesInTheHistogramLog() throws {
    let python = try #require(Python.with(["hdrh": "hdrhistogram"]))
    let runs = try SampleRuns.shared.get()
    #expect(try run(traceReplay, ["report", runs.timed, "--hlog", folder / "r.hlog"]).status == 0)
    let script = """
      import json, math, re, sys
      from hdrh.histogram import HdrHistogram
      from hdrh.log import HistogramLogReader
      report = json.load(open(sys.argv[2]))
      tags = re.findall(r"^Tag=([^,]+),", open(sys.argv[1]).read(), re.M)
      found = 0
      reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 2**45, 3))
      lines = {}
      for line in open(sys.argv[1]):
          if line.startswith("Tag="):
              tag, start, length, maximum, payload = line.strip().split(",")
              lines[tag[4:]] = HdrHistogram.decode(payload)
      interval = reader.get_next_interval_histogram()
      print("reader", interval is not None and interval.get_total_count() > 0)
      for tag, latency in [(t, report["latency"][t]) for t in ("lag", "service", "response")] + [("service-" + o["operation"], o["latency"]["service"]) for o in report["operations"]]:
          h = lines[tag]
          if h.get_total_count() != latency["count"]: print(tag, "count", h.get_total_count(), latency["count"])
          for key, q in (("p50_ns", 50), ("p90_ns", 90), ("p99_ns", 99), ("p99_9_ns", 99.9)):
              # Readers differ by one in the rank that a percentile means.
              n = latency["count"]
              rank = math.ceil(q / 100 * n)
              low, high = (h.get_value_at_percentile(min(100, 100 * (rank + by) / n)) for by in (-1.2, 1.2))
              if not low * 0.988 - 2 <= latency[key] <= high * 1.012 + 2: print(tag, key, latency[key], low, high)
          if abs(h.get_max_value() - latency["max_ns"]) > max(1, 0.001 * latency["max_ns"]): print(tag, "max", h.get_max_value(), latency["max_ns"])
          found += 1
      print("tags", found == len(tags) or (found, tags))
      """
    let result = try run(python, ["-c", script, folder / "r.hlog", runs.timed])
    #expect(result.stdout == "reader True\ntags True\n", "\(result.stdout)\(result.stderr)")
  }

  @Test(
    .enabled(
      if: Python.with(["prometheus_client": "prometheus_client"]) != nil,
      "the Python module prometheus_client is neither installed nor to be had"))
  func prometheusReadsTheTextfile() throws {
    let python = try #require(Python.with(["prometheus_client": "prometheus_client"]))
    let runs = try SampleRuns.shared.get()
    #expect(try run(traceReplay, ["report", runs.timed, "--prometheus", folder / "r.prom"]).status == 0)
    let script = """
      import json, sys
      from prometheus_client.parser import text_string_to_metric_families
      report = json.load(open(sys.argv[2]))
      families = {f.name: f for f in text_string_to_metric_families(open(sys.argv[1]).read())}
      print(sum(s.value for s in families["trace_replay_requests"].samples) == report["run"]["requests"])
      service = families["trace_replay_service_seconds"]
      print(service.type, [s.value for s in service.samples if s.labels.get("quantile") == "0.5"] == [report["latency"]["service"]["p50_ns"] / 1e9])
      print(all(f.documentation for f in families.values()), all(s.labels["trace"] == report["trace"]["digest"] for f in families.values() for s in f.samples))
      """
    let result = try run(python, ["-c", script, folder / "r.prom", runs.timed])
    #expect(result.stdout == "True\nsummary True\nTrue True\n", "\(result.stdout)\(result.stderr)")
  }

  @Test(.enabled(if: installed("python3") != nil, "python3 is not installed"))
  func anIndependentReaderFindsTheFiguresInTheCSV() throws {
    let runs = try SampleRuns.shared.get()
    #expect(try run(traceReplay, ["report", runs.timed, "--csv", folder / "r.csv"]).status == 0)
    let script = """
      import csv, json, sys
      report = json.load(open(sys.argv[2]))
      rows = list(csv.reader(open(sys.argv[1], newline="")))
      value = {(r[0], r[1], r[2]): r[3] for r in rows[1:]}
      print(all(len(r) == 4 for r in rows), value["latency", "service", "p99_ns"] == str(report["latency"]["service"]["p99_ns"]))
      print(value["run", "", "requests"] == str(report["run"]["requests"]), len([r for r in rows if r[0] == "interval" and r[2] == "requests"]) == len(report["intervals"]))
      """
    let result = try run(try #require(installed("python3")), ["-c", script, folder / "r.csv", runs.timed])
    #expect(result.stdout == "True True\nTrue True\n", "\(result.stdout)\(result.stderr)")
  }
}
