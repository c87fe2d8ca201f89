import ArgumentParser
import TraceKit

/// `trace-record verify`.
struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Check every byte of a trace.",
    discussion: """
      Checks all checksums, the order and the counts of blocks and events, and the digest against the end block, and says \
      exactly what is missing. Exit status: 0 the trace is intact; 1 it is damaged, was not closed or can't be read; 2 wrong usage.
      """)

  @Argument(help: "The trace.")
  var file: String
  @Option(help: ArgumentHelp("Write the findings as JSON to a file, or to the standard output for '-'.", valueName: "file|-"))
  var json: String?

  func run() throws {
    if let json { try OutputFile.refuseSame(json, as: file) }
    let verification = try TraceVerification(path: file)
    if json != "-" { try OutputFile.write(verification.text, to: "-") }
    if let json { try OutputFile.write(verification.json.formatted, to: json) }
    if !verification.isIntact { throw ExitCode(1) }
  }
}
