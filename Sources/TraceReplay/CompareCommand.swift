import ArgumentParser
import Glibc
import TraceKit

/// `trace-replay compare`.
struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare", abstract: "Replay a trace by several engines or on several targets, and say which does better.",
    discussion: """
      Each candidate is run once for nothing and then --runs times, in rounds of one run each whose order is balanced and random. \
      Every run begins in the same state: written data is on its device, scratch files are new. A target that is a folder gets \
      scratch files of its own there for each run; existing files and devices are only read, unless --allow-writes is given.

      Reports are kept in one folder, as A-1.json, B-1.json and so on; 'trace-replay diff' compares them again. The first candidate \
      is what the others are compared with.

      Exit status: as 'trace-replay diff'; 130 and 143 when interrupted (the reports made so far are kept).
      """)

  @Argument(help: "The trace.") var trace: String
  @Option(help: "An engine; repeatable; 'trace-replay engines' lists them (default: sync).") var engine: [String] = []
  @Option(help: "A file, block device or folder; repeatable.") var target: [String] = []
  @Option(help: "Runs of each candidate.") var runs = 5
  @Option(help: "Seed of the order of the runs (default: from the clock; it is printed).") var orderSeed: UInt64?
  @Option(name: .shortAndLong, help: "Folder for the reports (default: the trace's name with .compare, in this folder).")
  var output: String?
  @Flag(help: "Keep a log of each run, and compare request by request.") var logs = false
  @OptionGroup var replay: ReplayArguments
  @OptionGroup var verdict: VerdictArguments
  @Option(help: "Write the comparison as JSON; - is standard output, in place of the text.") var json: String?
  @Flag(help: "Write into an existing folder, and replace files there.") var force = false
  @Flag(name: .shortAndLong, help: "No progress.") var quiet = false

  func validate() throws {
    if runs < 1 || runs > 1000 { throw ValidationError("--runs \(runs): 1 to 1000") }
    if max(1, engine.count) * max(1, target.count) < 2 {
      throw ValidationError("two candidates at least: --engine or --target twice")
    }
    for (flag, values) in [("--engine", engine), ("--target", target)] where Set(values).count < values.count {
      throw ValidationError("\(flag): the same one twice; 'trace-replay selftest' compares a candidate with itself")
    }
  }

  func run() throws {
    StopSignal.install()
    if let json { try ReportFile.check(json, overwrite: force) }
    let path = output ?? RunFolder.defaultPath(tracePath: trace, suffix: "compare")
    let candidates = ComparisonCandidate.all(
      engines: engine.isEmpty ? [EngineRegistry.engineName(forTarget: target.first)] : engine, targets: target
    ) {
      replay.options(engine: $0, target: $1, reservedPaths: [trace] + [json].compactMap { $0 }.filter { $0 != "-" })
    }
    // What can't run is found before the folder is made.
    for candidate in candidates { _ = try Replayer(tracePath: trace, options: candidate.options).dryRun() }
    let options = try verdict.options()
    let runner = ComparisonRunner(
      tracePath: trace, candidates: candidates, rounds: runs, seed: orderSeed ?? TraceReplay.clockSeed(),
      folder: try RunFolder(path: path, overwrite: force), keepsLogs: logs)
    let made = try TraceReplay.makeRuns(runner, quiet: quiet)
    let comparison = try TraceReplay.comparing { () throws(TraceError) in try Comparison(runner, made, options: options) }
    if let json { try ReportFile.write(ReportFile.json(comparison), to: json, overwrite: force) }
    if json != "-" { print(comparison.text, terminator: "") }
    if !quiet { TraceReplay.complain("reports in \(PrintableText.escaped(path))") }
    try verdict.judge(comparison.diffs)
  }
}

extension TraceReplay {
  /// A seed that differs from run to run.
  static func clockSeed() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return UInt64(now.tv_sec) % 1_000_000_007
  }

  /// Makes the runs and shows how far they are; exits when interrupted.
  static func makeRuns(_ runner: ComparisonRunner, quiet: Bool) throws -> ComparisonRunner.Runs {
    let meter = ProgressMeter(enabled: !quiet && StandardError.isTerminal)
    defer {
      meter.clear()
      runner.folder.removeIfEmpty()
    }
    let runs = try runner.run { step in
      meter.clear()
      guard !quiet else { return }
      let what = step.round == 0 ? "discarded run" : "run \(step.round) of \(step.rounds)"
      complain("\(step.candidate): \(what)")
    } progress: {
      meter.show($0)
    }
    guard runs.isInterrupted else { return runs }
    let count = runs.reports.reduce(0) { $0 + $1.count }
    throw Failure(
      status: 128 + StopSignal.received,
      message: "interrupted; \(count == 0 ? "no report" : "\(count) reports in \(PrintableText.escaped(runner.folder.path))")")
  }
}
