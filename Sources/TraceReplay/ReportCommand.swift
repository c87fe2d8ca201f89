import ArgumentParser
import TraceKit

/// `trace-replay report`.
struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report", abstract: "Print a saved report again, or write it in another format.",
    discussion: "A file may be - for standard output, which then holds that document in place of the text.")

  @Argument(help: "A report, as --json wrote it.") var report: String
  @Option(help: "Write the report as JSON.") var json: String?
  @OptionGroup var outputs: ReportOutputs
  @Flag(help: "Replace existing files.") var force = false

  func run() throws {
    let documents = outputs.documents(json: json)
    for file in documents.files { try OutputFile.refuseSame(file, as: report) }
    try documents.check(overwrite: force)
    let report = try ReportFile.report(report)
    try documents.write(report, units: outputs.text.style.units, overwrite: force)
    if !documents.takesStandardOutput { print(report.text(outputs.text.style), terminator: "") }
  }
}
