import ArgumentParser
import TraceKit

/// `trace-record trigger`.
struct TriggerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trigger", abstract: "Make a recorder that runs with --last write what it has in memory.",
    discussion: "Waits until the trace is written and prints its name. SIGUSR1 to the recorder does the same without waiting.")

  @Argument(help: ArgumentHelp("The recorder's process number or its output; not needed when only one runs.", valueName: "pid|file"))
  var recorder: String?

  func run() throws { print(try FlightClient.trigger(recorder)) }
}
