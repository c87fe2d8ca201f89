import ArgumentParser
import TraceKit

/// `trace-replay report`.
struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "report", abstract: "Print a saved report again.")

  @Argument(help: "A report, as --json wrote it.") var report: String

  func run() throws { print(try ReportFile.report(report).text, terminator: "") }
}
