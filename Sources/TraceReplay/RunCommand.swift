import ArgumentParser
import Glibc
import TraceKit

/// `trace-replay run`.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Replay a trace and report what was measured.",
    discussion: """
      With no --target and no --map, one scratch file per recorded file is made below --scratch, filled where it will be read, \
      and removed at the end. Existing targets are only read, unless --allow-writes is given; devices that are mounted or in use \
      are never written to.
      """)

  @Argument(help: "The trace.") var trace: String
  @Option(help: "Engine: null or sync; 'trace-replay engines' lists them.") var engine = "sync"
  @Option(help: "original, a factor (2x, 0.5x), a rate (10000/s), or max.", transform: parseSpeed) var speed = ReplaySpeed.factor(1)
  @Option(help: "streams: a recorded thread's requests follow each other; schedule: open loop; depth: times ignored (with --speed max).")
  var order = ReplayOrder.streams
  @Option(help: "When the replay falls behind: burst (catch up), shift (move the schedule) or drop (skip).") var late = LatePolicy.burst
  @Option(help: "Worker threads (default: one per recorded thread, at most \(ReplayOptions.defaultMaximumWorkers)).") var workers: Int?
  @Option(help: "Requests in flight per worker; engines that complete one request at a time take 1.") var iodepth: Int?
  @Option(help: "A file or block device (for a trace of one file), or a folder in which files are made.") var target: String?
  @Option(help: ArgumentHelp("A target for a recorded path or for all paths below one; repeatable.", valueName: "recorded=target"))
  var map: [String] = []
  @Option(help: "Folder in which the scratch folder is made (default: $TMPDIR or /tmp).") var scratch: String?
  @Flag(help: "Keep the scratch files and say where they are.") var keepScratch = false
  @Flag(help: "Permit writing to targets that existed before. Their content is lost.") var allowWrites = false
  @Flag(help: "Say what would be done, with targets and expected duration, and do nothing.") var dryRun = false
  @Option(help: "Only requests that start this long after the first event or later (1.5s, 200ms, plain seconds).", transform: parseDuration)
  var from: Int64?
  @Option(help: "Only requests that start before this.", transform: parseDuration) var to: Int64?
  @Option(help: "Only one kind: read, write, fsync, fdatasync, truncate or discard.", transform: parseKind) var only: IOOperation.Kind?
  @Option(help: ArgumentHelp("Only files whose recorded path matches; repeatable.", valueName: "glob")) var file: [String] = []
  @Option(help: "Replay the trace this many times, one after the other.") var loops = 1
  @Option(help: "Later than this counts as late.", transform: parseDuration) var lagBudget: Int64 = 1_000_000
  @Flag(help: "Refuse a trace that is known to miss requests, or was not closed.") var requireLossless = false
  @Flag(help: "Exit with 1 when the replay is not faithful.") var requireFaithful = false
  @Option(help: "Write the report as JSON; - is standard output, in place of the text.") var json: String?
  @Option(help: "Write the replay itself as a trace.") var log: String?
  @Flag(help: "Replace existing report and log files.") var force = false
  @Option(help: "Seed of the written data.") var seed: UInt64 = 1
  @Flag(name: .shortAndLong, help: "No progress.") var quiet = false

  func validate() throws {
    if let workers, workers < 1 || workers > 1024 { throw ValidationError("--workers \(workers): 1 to 1024") }
    if loops < 1 || loops > 1_000_000 { throw ValidationError("--loops \(loops): 1 to 1000000") }
    if order == .depth, speed.isTimed { throw ValidationError("--order depth ignores times and needs --speed max") }
    if let iodepth, iodepth != 1 {
      throw ValidationError(
        "--iodepth \(iodepth): the engines of this version complete one request at a time; --workers \(max(1, iodepth)) keeps as many in flight"
      )
    }
    for rule in map where !rule.contains("=") || rule.hasPrefix("=") || rule.hasSuffix("=") {
      throw ValidationError("--map \(PrintableText.escaped(rule)): RECORDED=TARGET")
    }
    if let from, let to, from >= to { throw ValidationError("--from must lie before --to") }
  }

  func run() throws {
    StopSignal.install()
    let recording = try TraceReader(path: trace)
    if requireLossless { try recording.requireLossless() }
    let replayer = try Replayer(tracePath: trace, options: options())
    if !quiet { recording.recordingNotes.forEach { TraceReplay.complain("note: \($0)") } }
    if !quiet { replayer.warnings.forEach { TraceReplay.complain("warning: \($0)") } }
    if dryRun {
      print(try replayer.dryRun().text, terminator: "")
      return
    }
    if let json { try ReportFile.check(json, overwrite: force) }
    let known = replayer.warnings.count
    let meter = ProgressMeter(enabled: !quiet && StandardError.isTerminal)
    let report = try replayer.run { meter.show($0) }
    meter.clear()
    if !quiet { replayer.warnings.dropFirst(known).forEach { TraceReplay.complain("warning: \($0)") } }
    if let json { try ReportFile.write(ReportFile.json(report), to: json, overwrite: force) }
    if json != "-" { print(report.text, terminator: "") }
    if keepScratch, let first = report.targets.first(where: { $0.kind == "scratch" }) {
      TraceReplay.complain("scratch files kept, the first is \(first.path)")
    }
    if report.run.partial { Glibc.exit(128 + StopSignal.received) }
    if requireFaithful, report.fidelity.verdict != .faithful {
      throw TraceReplay.Failure(
        status: 1, message: "the replay is not faithful: " + (report.fidelity.reasons.first ?? report.fidelity.verdict.rawValue))
    }
  }

  private func options() -> ReplayOptions {
    var options = ReplayOptions()
    options.engine = engine
    options.speed = speed
    options.order = order
    options.late = late
    options.workers = workers
    options.lagBudgetNanoseconds = lagBudget
    options.fromNanoseconds = from
    options.toNanoseconds = to
    options.only = only
    options.fileGlobs = file
    options.loops = loops
    options.seed = seed
    options.logPath = log
    options.overwriteLog = force
    options.targets.target = target
    options.targets.map = map.map { rule in
      let separator = rule.firstIndex(of: "=")!
      return (String(rule[..<separator]), String(rule[rule.index(after: separator)...]))
    }
    options.targets.scratch = scratch
    options.targets.keepScratch = keepScratch
    options.targets.allowWrites = allowWrites
    options.targets.reservedPaths = [trace] + [json, log].compactMap { $0 }.filter { $0 != "-" }
    return options
  }
}

extension ReplayOrder: ExpressibleByArgument {}
extension LatePolicy: ExpressibleByArgument {}

private func parseSpeed(_ text: String) throws -> ReplaySpeed {
  guard let speed = ReplaySpeed(text) else {
    throw ValidationError("'\(PrintableText.escaped(text))' is no speed: original, 2x, 10000/s or max")
  }
  return speed
}

private func parseDuration(_ text: String) throws -> Int64 {
  guard let value = DurationText.nanoseconds(text) else {
    throw ValidationError("'\(PrintableText.escaped(text))' is no duration: 1.5s, 200ms, 10us")
  }
  return value
}

private func parseKind(_ text: String) throws -> IOOperation.Kind {
  guard let kind = IOOperation.Kind.allCases.first(where: { $0.name == text }) else {
    throw ValidationError(
      "'\(PrintableText.escaped(text))' is no operation that is replayed: \(IOOperation.Kind.allCases.map(\.name).joined(separator: ", "))")
  }
  return kind
}
