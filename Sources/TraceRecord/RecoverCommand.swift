import ArgumentParser
import TraceKit

/// `trace-record recover`.
struct RecoverCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recover", abstract: "Copy what is intact of a damaged or unclosed trace into a new one.",
    discussion: """
      Every intact block is copied exactly; where events are missing the new trace has a gap event, and it says that it is not \
      lossless. The damaged trace is not touched.
      """)

  @Argument(help: "The damaged trace.")
  var file: String
  @Option(name: .shortAndLong, help: ArgumentHelp("The new trace.", valueName: "file"))
  var output: String
  @Flag(help: "Replace the output when it exists.")
  var force = false
  @Option(help: ArgumentHelp("Write what was recovered as JSON to a file, or to the standard output for '-'.", valueName: "file|-"))
  var json: String?

  func validate() throws {
    if let json, json == output, json != "-" { throw ValidationError("--json and --output name the same file") }
  }

  func run() throws {
    if let json { try OutputFile.refuseSame(json, as: file) }
    var options = TraceWriter.Options()
    options.overwrite = force
    let report = try TraceRecovery.recover(from: file, to: output, options: options)
    if json != "-" { try OutputFile.write(report.text, to: "-") }
    if let json { try OutputFile.write(report.json.formatted, to: json) }
  }
}
