import ArgumentParser
import TraceKit

/// `trace-replay selftest`.
struct SelftestCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "selftest", abstract: "Compare runs of one engine on one target with each other: what can be found on this machine?",
    discussion: """
      Makes one discarded run and then --runs equal ones, and prints how often a comparison of them claims a difference that can't \
      be there, and the smallest change that a given number of pairs of runs would find.
      """)

  @Argument(help: "The trace.") var trace: String
  @Option(help: "Engine; 'trace-replay engines' lists them.") var engine = "sync"
  @Option(help: "A file, block device or folder.") var target: String?
  @Option(help: "Runs to make; an even number, from 4.") var runs = 10
  @Option(name: .shortAndLong, help: "Folder for the reports (default: the trace's name with .selftest, in this folder).")
  var output: String?
  @OptionGroup var replay: ReplayArguments
  @Option(help: "Write the result as JSON; - is standard output, in place of the text.") var json: String?
  @Flag(help: "Write into an existing folder, and replace files there.") var force = false
  @Flag(name: .shortAndLong, help: "No progress.") var quiet = false

  func validate() throws {
    if runs < 4 || runs > 1000 || runs % 2 != 0 { throw ValidationError("--runs \(runs): an even number from 4 to 1000") }
  }

  func run() throws {
    StopSignal.install()
    if let json { try ReportFile.check(json, overwrite: force) }
    let path = output ?? RunFolder.defaultPath(tracePath: trace, suffix: "selftest")
    let candidates = ComparisonCandidate.all(engines: [engine], targets: target.map { [$0] } ?? []) {
      replay.options(engine: $0, target: $1, reservedPaths: [trace] + [json].compactMap { $0 }.filter { $0 != "-" })
    }
    _ = try Replayer(tracePath: trace, options: candidates[0].options).dryRun()
    let runner = ComparisonRunner(
      tracePath: trace, candidates: candidates, rounds: runs, seed: 0, folder: try RunFolder(path: path, overwrite: force),
      keepsLogs: false)
    let made = try TraceReplay.makeRuns(runner, quiet: quiet)
    let result = SelfTest(made.reports[0])
    if let json { try ReportFile.write(ReportFile.json(result), to: json, overwrite: force) }
    if json != "-" { print(result.text, terminator: "") }
    if !quiet { TraceReplay.complain("reports in \(PrintableText.escaped(path))") }
  }
}
