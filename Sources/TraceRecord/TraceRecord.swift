import ArgumentParser
import TraceKit

@main
struct TraceRecord: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trace-record", abstract: "Record I/O request streams into compact traces, and look into them.",
    subcommands: [RunCommand.self, CalibrateCommand.self])
}
