import ArgumentParser
import TraceKit

/// `trace-record import`.
struct ImportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import", abstract: "Turn traces of other tools into a trace.",
    discussion: """
      The format is recognised by the content. Several inputs are merged by time. What is packed by gzip is unpacked, and '-' is the \
      standard input; both take room in $TMPDIR or /tmp while they are read. Formats:
      \(ImportFormat.all.map { "  \($0.name): \($0.summary)" }.joined(separator: "\n"))
      """)

  @Argument(help: "The files to import, or - for the standard input.")
  var inputs: [String]
  @Option(help: ArgumentHelp("The inputs' format, where the content does not tell.", valueName: "name"))
  var format: String?
  @Option(name: .shortAndLong, help: ArgumentHelp("The new trace.", valueName: "file"))
  var output: String
  @Flag(help: "Replace the output when it exists.")
  var force = false
  @Option(
    help: ArgumentHelp(
      "What 'wait' means in a fio iolog of version 2: fio's code has milliseconds-since-start, its manual microseconds-since-previous.",
      valueName: "unit"))
  var fioWait = FioWait.millisecondsSinceStart
  @Option(help: ArgumentHelp("Write what was imported as JSON to a file, or to the standard output for '-'.", valueName: "file|-"))
  var json: String?

  func validate() throws {
    if let json, json == output, json != "-" { throw ValidationError("--json and --output name the same file") }
    if inputs.filter({ $0 == "-" }).count > 1 { throw ValidationError("the standard input can be imported once only") }
    if inputs.isEmpty { throw ValidationError("Missing expected argument '<inputs> ...'") }
    if let format, ImportFormat.named(format) == nil {
      throw ValidationError("no import format is called '\(format)'; there are \(ImportFormat.all.map(\.name).joined(separator: ", "))")
    }
  }

  func run() throws {
    if let json { for input in inputs where input != "-" { try OutputFile.refuseSame(json, as: input) } }
    var options = TraceImport.Options()
    options.format = format
    options.fioWait = fioWait
    options.tool = "trace-record \(ToolVersion.current)"
    options.writer.overwrite = force
    let report = try TraceImport.run(inputs: inputs, output: output, options: options)
    if json != "-" { try OutputFile.write(report.text, to: "-") }
    if let json { try OutputFile.write(report.json.formatted, to: json) }
  }
}

extension FioWait: ExpressibleByArgument {}
