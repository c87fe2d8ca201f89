import ArgumentParser
import TraceKit

/// `trace-record export`.
struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Turn a trace into another tool's format.",
    discussion: """
      What the format has no place for is counted and said. Formats:
      \(ExportFormat.all.map { "  \($0.name): \($0.summary)" }.joined(separator: "\n"))
      """)

  @Argument(help: "The trace.")
  var file: String
  @Option(help: ArgumentHelp("The format to write.", valueName: "name"))
  var to: String
  @Option(name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file"))
  var output: String
  @Flag(help: "Replace the output when it exists.")
  var force = false
  @Option(help: ArgumentHelp("Version of fio's iolog: 3 has times in microseconds, 2 waits in milliseconds.", valueName: "3|2"))
  var fioVersion = 3
  @Option(help: ArgumentHelp("Write what was exported as JSON to a file, or to the standard output for '-'.", valueName: "file|-"))
  var json: String?

  func validate() throws {
    if let json, json == output, json != "-" { throw ValidationError("--json and --output name the same file") }
    if ExportFormat.named(to) == nil {
      throw ValidationError("no export format is called '\(to)'; there are \(ExportFormat.all.map(\.name).joined(separator: ", "))")
    }
    if fioVersion != 2 && fioVersion != 3 { throw ValidationError("--fio-version takes 3 or 2") }
  }

  func run() throws {
    if let json { try OutputFile.refuseSame(json, as: file) }
    var options = TraceExport.Options()
    options.fioVersion = fioVersion
    options.overwrite = force
    let report = try TraceExport.run(trace: file, format: to, output: output, options: options)
    for warning in report.warnings { CommandFailure.say("warning: \(warning)") }
    if json != "-" { try OutputFile.write(report.text, to: "-") }
    if let json { try OutputFile.write(report.json.formatted, to: json) }
  }
}
