import ArgumentParser
import TraceKit

/// `trace-replay diff`.
struct DiffCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff", abstract: "Compare two reports of the same trace.",
    discussion: """
      Ratios are B ÷ A. Intervals come from consecutive windows of the same requests; they hold within this pair of runs and say \
      nothing about run-to-run variation. Reports of different traces, speeds, orders or filters are not comparable (exit status 4).
      """)

  @Argument(help: "Report A, as 'trace-replay run --json' wrote it.") var a: String
  @Argument(help: "Report B.") var b: String
  @Option(help: "Compare although this differs: \(ReportDiff.refusals.joined(separator: ", ")); repeatable.") var allowDifferent: [String] =
    []
  @Option(help: "A change within this many percent counts as equivalent.") var margin = 2.0
  @Option(help: "Write the comparison as JSON; - is standard output, in place of the text.") var json: String?
  @Flag(help: "Replace an existing JSON file.") var force = false

  func validate() throws {
    for name in allowDifferent where !ReportDiff.refusals.contains(name) {
      throw ValidationError("--allow-different \(PrintableText.escaped(name)): one of \(ReportDiff.refusals.joined(separator: ", "))")
    }
    if !(margin >= 0 && margin <= 100) { throw ValidationError("--margin: 0 to 100 percent") }
  }

  func run() throws {
    if let json { try ReportFile.check(json, overwrite: force) }
    let (first, second) = (try ReportFile.report(a), try ReportFile.report(b))
    let diff: ReportDiff
    do {
      var options = DiffOptions()
      options.allow = Set(allowDifferent)
      options.marginPercent = margin
      diff = try ReportDiff([DiffRun(first, name: a)], [DiffRun(second, name: b)], nameA: a, nameB: b, options: options)
    } catch {
      throw TraceReplay.Failure(status: 4, message: error.message)
    }
    if let json { try ReportFile.write(ReportFile.json(diff), to: json, overwrite: force) }
    if json != "-" { print(diff.text, terminator: "") }
  }
}
