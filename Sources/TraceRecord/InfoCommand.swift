import ArgumentParser
import TraceKit

/// `trace-record info`.
struct InfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info", abstract: "Show what a trace holds.",
    discussion: "A damaged or unclosed trace is shown as far as it can be read, with warnings on stderr.")

  @Argument(help: "The trace.")
  var file: String
  @Option(help: ArgumentHelp("Write everything as JSON to a file, or to the standard output for '-'.", valueName: "file|-"))
  var json: String?
  @Option(help: ArgumentHelp("How many files to list, those with most bytes first.", valueName: "n"))
  var files = 10

  func validate() throws {
    if files < 0 { throw ValidationError("--files takes a number of 0 or more") }
  }

  func run() throws {
    if let json { try OutputFile.refuseSame(json, as: file) }
    let information = try TraceInformation(path: file)
    for warning in information.warnings { CommandFailure.say("warning: \(warning)") }
    if json != "-" { try OutputFile.write(information.text(files: files), to: "-") }
    if let json { try OutputFile.write(information.json(files: files).formatted, to: json) }
  }
}
