import ArgumentParser
import Glibc
import TraceKit

@main
struct TraceReplay: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trace-replay", abstract: "Replay I/O traces through an engine, measure latency, compare the results.",
    discussion: """
      Nothing that existed before is written without --allow-writes; with no target named, a replay makes scratch files of its own.

      Exit status: 0 fine, 1 error, 2 usage, 3 regression (diff and compare with --fail-on), 4 not comparable, 5 inconclusive \
      (with --fail-inconclusive), 130 and 143 interrupted by SIGINT or SIGTERM (the report is valid and says partial).
      """,
    version: ToolVersion.current,
    subcommands: [
      RunCommand.self, ReportCommand.self, DiffCommand.self, CompareCommand.self, SelftestCommand.self, EnginesCommand.self,
      ServeCommand.self,
    ])

  /// Usage errors exit with 2, and every other failure with one sentence and its status.
  static func main() {
    signal(SIGPIPE, SIG_DFL)
    do {
      var command = try parseAsRoot(DiffCommand.spelledOut(Array(CommandLine.arguments.dropFirst())))
      try command.run()
    } catch let failure as Failure {
      complain(failure.message)
      Glibc.exit(failure.status)
    } catch let error as TraceError {
      complain(error.message)
      switch error.kind {
      case .usage: Glibc.exit(2)
      case .interrupted: Glibc.exit(128 + StopSignal.received)
      default: Glibc.exit(1)
      }
    } catch {
      let status = exitCode(for: error).rawValue
      let text = fullMessage(for: error)
      if status == 0 { print(text) } else { complain(text, prefix: false) }
      Glibc.exit(status == EX_USAGE ? 2 : status)
    }
  }

  /// A failure with an exit status of its own.
  struct Failure: Error {
    var status: Int32
    var message: String
  }

  static func complain(_ message: String, prefix: Bool = true) {
    let line = (prefix ? "trace-replay: " : "") + message + "\n"
    StandardError.write(line)
  }
}
