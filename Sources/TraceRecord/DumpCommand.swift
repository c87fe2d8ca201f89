import ArgumentParser
import TraceKit

/// `trace-record dump`.
struct DumpCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dump", abstract: "Print a trace's events, one a line.",
    discussion: """
      Control characters, backslashes and broken UTF-8 in paths are shown as \\xNN. A damaged or unclosed trace is shown as far \
      as it can be read, with warnings on stderr.
      """)

  @Argument(help: "The trace.")
  var file: String
  @Option(help: ArgumentHelp("Begin at this time after the first event: seconds, or 1.5s, 200ms, 10us.", valueName: "time"))
  var from: String?
  @Option(help: ArgumentHelp("End before this time after the first event.", valueName: "time"))
  var to: String?
  @Flag(help: ArgumentHelp("Print CSV with the columns \(TraceDump.columns); a field that is not known is empty."))
  var csv = false

  func validate() throws {
    for (name, value) in [("--from", from), ("--to", to)] {
      guard let value, DurationText.nanoseconds(value) == nil else { continue }
      throw ValidationError("\(name) takes seconds or a duration such as 1.5s, 200ms or 10us, not '\(PrintableText.escaped(value))'")
    }
  }

  func run() throws {
    let reader = try TraceReader(path: file)
    var dump = TraceDump(
      reader, style: csv ? .csv : .text, fromNanoseconds: from.flatMap(DurationText.nanoseconds),
      toNanoseconds: to.flatMap(DurationText.nanoseconds))
    try dump.write(to: OutputFile())
    for warning in reader.warnings { CommandFailure.say("warning: \(warning)") }
  }
}
