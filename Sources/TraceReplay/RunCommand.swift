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
  @Option(help: "Engine; 'trace-replay engines' lists them (default: net or nbd for addresses, else sync).") var engine: String?
  @Option(
    help: """
      A file or block device (for a trace of one file), a folder in which files are made, or an address: tcp://host:port, \
      udp://host:port, unix:/path, nbd://host[:port]/export, nbd+unix:///export?socket=/path.
      """)
  var target: String?
  @OptionGroup var replay: ReplayArguments
  @Flag(help: "Say what would be done, with targets and expected duration, and do nothing.") var dryRun = false
  @Flag(help: "Refuse a trace that is known to miss requests, or was not closed.") var requireLossless = false
  @Flag(help: "Exit with 1 when the replay is not faithful.") var requireFaithful = false
  @Option(help: "Write the report as JSON; - is standard output, in place of the text.") var json: String?
  @Option(help: "Write the replay itself as a trace.") var log: String?
  @OptionGroup var outputs: ReportOutputs
  @Flag(help: "Replace existing report and log files.") var force = false
  @Flag(name: .shortAndLong, help: "No progress.") var quiet = false

  func run() throws {
    StopSignal.install()
    let recording = try TraceReader(path: trace)
    if requireLossless { try recording.requireLossless() }
    let replayer = try Replayer(tracePath: trace, options: options())
    if !quiet { for note in recording.recordingNotes { TraceReplay.complain("note: \(note)") } }
    if !quiet { replayer.warnings.forEach { TraceReplay.complain("warning: \($0)") } }
    if dryRun {
      print(try replayer.dryRun().text, terminator: "")
      return
    }
    let documents = outputs.documents(json: json)
    for file in documents.files { try OutputFile.refuseSame(file, as: trace) }
    try documents.check(overwrite: force, log: log)
    let known = replayer.warnings.count
    let meter = ProgressMeter(enabled: !quiet && StandardError.isTerminal)
    let report = try replayer.run { meter.show($0) }
    meter.clear()
    if !quiet { replayer.warnings.dropFirst(known).forEach { TraceReplay.complain("warning: \($0)") } }
    try documents.write(report, units: outputs.text.style.units, overwrite: force)
    if !documents.takesStandardOutput { print(report.text(outputs.text.style), terminator: "") }
    if replay.keepScratch, let first = report.targets.first(where: { $0.kind == "scratch" }) {
      TraceReplay.complain("scratch files kept, the first is \(first.path)")
    }
    if let complaint = report.verification?.complaint { throw TraceReplay.Failure(status: 1, message: complaint) }
    if report.run.partial, StopSignal.received != 0 { Glibc.exit(128 + StopSignal.received) }
    if let failure = report.run.failure { throw TraceReplay.Failure(status: 1, message: failure) }
    if requireFaithful, report.fidelity.verdict != .faithful {
      throw TraceReplay.Failure(
        status: 1, message: "the replay is not faithful: " + (report.fidelity.reasons.first ?? report.fidelity.verdict.rawValue))
    }
  }

  private func options() -> ReplayOptions {
    let written = outputs.documents(json: json).files + (log.map { [$0] } ?? [])
    var options = replay.options(
      engine: engine ?? EngineRegistry.engineName(forTarget: target), target: target, reservedPaths: [trace] + written)
    options.logPath = log
    options.overwriteLog = force
    return options
  }
}
