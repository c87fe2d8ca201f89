import ArgumentParser
import Glibc
import TraceKit

@main
struct TraceRecord: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trace-record", abstract: "Record I/O request streams into compact traces, and look into them.",
    discussion: """
      Exit status: 0 success; 1 an error, said in one sentence on stderr ('verify': the trace is damaged or was not closed); \
      2 wrong usage. 'run' passes the program's own status through and has 125, 126 and 127 for itself.
      """,
    version: ToolVersion.current,
    subcommands: [
      RunCommand.self,
      AttachCommand.self,
      BlockCommand.self,
      TriggerCommand.self,
      InfoCommand.self,
      DumpCommand.self,
      VerifyCommand.self,
      RecoverCommand.self,
      ImportCommand.self,
      ExportCommand.self,
      CalibrateCommand.self,
      GuardTracingCommand.self,
    ])

  static func main() {
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch {
      Glibc.exit(CommandFailure.status(of: error, Self.self))
    }
  }
}
