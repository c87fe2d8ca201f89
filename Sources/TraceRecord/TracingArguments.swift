import ArgumentParser
import CTrace
import Glibc
import TraceKit

/// The options that `attach` and `block` share.
struct TracingArguments: ParsableArguments {
  @Option(name: .shortAndLong, help: ArgumentHelp("The trace to write.", valueName: "file"))
  var output: String
  @Flag(help: "Replace an existing trace.")
  var force = false
  @Option(
    help: ArgumentHelp("Stop after this time, as 30s or 5m (default: until Ctrl-C, or nothing is left to record).", valueName: "time"))
  var duration: String?
  @Option(help: ArgumentHelp("Memory of each CPU's kernel buffer, as 16M.", valueName: "size"))
  var kernelBuffer: String = "16M"
  @Flag(help: "Hide file names behind a keyed hash; extensions and the tree's shape stay.")
  var anonymize = false
  @Option(help: ArgumentHelp("Hide names with the key in this file, so that recordings can be compared.", valueName: "file"))
  var anonymizeKey: String?
  @Option(help: ArgumentHelp("Compression, 1 (fast) to 9 (small).", valueName: "n"))
  var level: Int = Int(TraceWriter.defaultCompressionLevel)
  @Flag(help: "Neither a line when recording begins nor a summary at the end.")
  var quiet = false
  @OptionGroup(title: "Long recordings")
  var long: RecordingArguments
  @Flag(help: .hidden)
  var noCalibration = false

  /// - Throws: one sentence for a value that can't be used.
  func options() throws(TraceError) -> TracingOptions {
    guard (1...9).contains(level) else { throw TraceError(.refused, "--level \(level): 1 to 9") }
    guard let bufferBytes = ByteCount.bytes(kernelBuffer).map({ Int(clamping: $0) }), bufferBytes >= 64 << 10, bufferBytes <= 1 << 30 else {
      throw TraceError(.refused, "--kernel-buffer \(PrintableText.escaped(kernelBuffer)): 64K to 1G")
    }
    var options = TracingOptions(output: output)
    options.overwrite = force
    options.bufferBytes = bufferBytes
    options.compressionLevel = Int32(level)
    options.measuresCost = !noCalibration
    if let duration {
      guard let nanoseconds = DurationText.nanoseconds(duration), nanoseconds > 0 else {
        throw TraceError(.refused, "--duration \(PrintableText.escaped(duration)): a time as 30s, 500ms or 5m")
      }
      options.durationNanoseconds = nanoseconds
      options.described["duration"] = duration
    }
    options.long = try long.options()
    options.described["kernel_buffer_bytes"] = "\(bufferBytes)"
    if let anonymizeKey {
      options.anonymizer = try PathAnonymizer(keyFile: anonymizeKey)
    } else if anonymize {
      options.anonymizer = PathAnonymizer()
    }
    if let executable = realpath("/proc/self/exe", nil) {
      options.guardian = [String(cString: executable), GuardTracingCommand.name]
      free(executable)
    }
    if !quiet {
      let end = duration == nil ? "Ctrl-C ends it" : "it ends after \(duration!)"
      options.whenReady = { CommandFailure.say("\($0); \(end)") }
    }
    return options
  }

  /// Prints the summary; a recording that ended early is an error.
  func report(_ summary: RecordingSummary) throws {
    if !quiet { for line in summary.lines { CommandFailure.say(line) } }
    if let failure = summary.failure { throw failure }
  }
}

/// Removes a killed recorder's tracing instance; `attach` and `block` start it.
struct GuardTracingCommand: ParsableCommand {
  static let name = "guard-tracing"
  static let configuration = CommandConfiguration(commandName: name, shouldDisplay: false)
  @Argument var owner: Int32

  func run() { TracingGuardian.wait(for: owner) }
}
