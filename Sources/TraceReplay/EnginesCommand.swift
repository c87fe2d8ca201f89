import ArgumentParser
import TraceKit

/// `trace-replay engines`.
struct EnginesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engines", abstract: "List the engines: whether this machine can run them, and what they support.")

  func run() { print(EngineListing.text, terminator: "") }
}
