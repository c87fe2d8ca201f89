import ArgumentParser
import CTrace
import TraceKit

/// `trace-record block`.
struct BlockCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "block", abstract: "Record the requests that reach block devices.",
    discussion: """
      Reads, writes, flushes, discards and zeroing, from issue to completion, with the thread that asked for them. Of a partition \
      those inside it, with offsets from its start. It needs root. Recording ends after --duration, or at SIGINT or SIGTERM.

      Exit status: 0 success; 1 an error, said in one sentence on stderr; 2 wrong usage.
      """)

  @OptionGroup var tracing: TracingArguments
  @Argument(help: "The devices, as /dev/sda.")
  var device: [String]

  func run() throws {
    let options = try tracing.options()
    ctrace_install_stop_handlers()
    try tracing.report(try BlockRecorder.record(device, options).summary)
  }
}
