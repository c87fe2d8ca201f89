import ArgumentParser
import TraceKit

/// `trace-replay diff`.
struct DiffCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff", abstract: "Compare replays of the same trace.",
    usage: "trace-replay diff [<options>] <a> <b>\n       trace-replay diff [<options>] <a> ... -- <b> ...",
    discussion: """
      Each side is one report or several, logs of replays ('run --log'), reports with their logs, or the recorded trace itself; \
      files are recognised by their content. Several runs of a side are compared in pairs, the first of A with the first of B: \
      'diff A*.json -- B*.json'.

      Changes are B ÷ A − 1. With several pairs of runs, intervals say what another pair would show. With one pair they come from \
      consecutive windows of the same requests, hold within this pair and say nothing about run-to-run variation. Where both \
      sides have logs, or one the recording, each request is compared with itself.

      Exit status: 0 no limit was passed, 1 error, 2 usage, 3 regression (a limit of --fail-on was passed), 4 not comparable \
      (other trace, speed, order, filter or loops; or limits were set and a run was unfaithful), 5 inconclusive and \
      --fail-inconclusive was given.
      """)

  @Argument(help: "A and B; or the files of A when those of B follow after --.") var a: [String]
  @Option(
    name: .customLong("against"), parsing: .remaining,
    help: ArgumentHelp("The files of B, the rest of the command line; -- says the same.", valueName: "b")) var b: [String] = []
  @OptionGroup var verdict: VerdictArguments
  @Option(help: "Write the comparison as JSON; - is standard output, in place of the text.") var json: String?
  @OptionGroup var outputs: DiffOutputs
  @Flag(help: "Replace existing files.") var force = false

  func validate() throws {
    if b.isEmpty, a.count != 2 {
      throw ValidationError(a.count < 2 ? "two files are compared" : "with more than two files, -- separates those of A from those of B")
    }
    if let option = b.first(where: { $0.hasPrefix("--") }) {
      throw ValidationError("\(PrintableText.escaped(option)) stands among the files of B; options stand before the --")
    }
  }

  func run() throws {
    let documents = outputs.documents(json: json)
    for output in documents.files { for input in a + b { try OutputFile.refuseSame(output, as: input) } }
    try documents.check(overwrite: force)
    let options = try verdict.options()
    let (filesA, filesB) = b.isEmpty ? ([a[0]], [a[1]]) : (a, b)
    let (operands, diff) = try TraceReplay.comparing { () throws(TraceError) in
      let operands = try DiffOperands(filesA, filesB)
      return (operands, try operands.compare(options))
    }
    try documents.write(diff, reports: operands.firstReports, units: outputs.text.style.units, overwrite: force)
    if !documents.takesStandardOutput { print(diff.text(outputs.text.style), terminator: "") }
    try verdict.judge([diff])
  }
}

extension DiffCommand {
  /// The command line with the -- of `diff A... -- B...` spelled out: the parser takes no second list of arguments after one.
  static func spelledOut(_ arguments: [String]) -> [String] {
    guard arguments.first == configuration.commandName, let separator = arguments.firstIndex(of: "--") else { return arguments }
    var arguments = arguments
    arguments[separator] = "--against"
    return arguments
  }
}

extension TraceReplay {
  /// Runs a comparison; what can't be compared exits with 4, other failures with 1.
  static func comparing<Result>(_ body: () throws(TraceError) -> Result) throws -> Result {
    do { return try body() } catch {
      throw error.kind == .refused ? Failure(status: 4, message: error.message) : error
    }
  }
}
