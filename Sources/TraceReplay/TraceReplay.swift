import ArgumentParser
import TraceKit

@main
struct TraceReplay: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trace-replay", abstract: "Replay I/O traces through an engine, measure latency, compare the results.")
}
