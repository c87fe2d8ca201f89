import ArgumentParser
import TraceKit

/// What every way of recording takes to go on for long: `run`, `attach` and `block` share it.
struct RecordingArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Begin a new trace, NAME.0001…, NAME.0002…, at this size or after this time, as 1GiB or 10m; twice for both.",
      valueName: "size|time"))
  var rotate: [String] = []
  @Option(help: ArgumentHelp("With --rotate or --last: keep so many traces and remove older ones.", valueName: "n"))
  var keep: Int?
  @Option(help: ArgumentHelp("Stop recording before the trace grows beyond this; the program goes on.", valueName: "size"))
  var maxSize: String?
  @Option(
    help: ArgumentHelp(
      "Keep the last so long in memory and write nothing until a trigger comes, then NAME.0001…: SIGUSR1, 'trace-record trigger' or --when.",
      valueName: "time"))
  var last: String?
  @Option(help: ArgumentHelp("With --last: most memory for its events.", valueName: "size"))
  var lastMemory: String = "256M"
  @Option(
    help: ArgumentHelp(
      "With --last: write when this happens: 'latency > 100ms', 'fsync latency > 1s', 'errors', 'error EIO,ENOSPC', 'failure' (of the program), 'end'; may be repeated.",
      valueName: "condition"))
  var when: [String] = []
  @Option(
    help: ArgumentHelp(
      "Record 1 of N files, or with 1/N,threads 1 of N threads, as 1/8: all requests of those and none of the others.",
      valueName: "1/n"))
  var sample: String?
  @Flag(help: "Show rate, bytes, latencies and drops on stderr, renewed each second.")
  var live = false
  @Option(help: ArgumentHelp("Nice value of the recorder, -20 to 19 (default: ahead of others where that is allowed).", valueName: "n"))
  var nice: Int?
  @Option(help: ArgumentHelp("Memory for what was taken from the rings and is not written yet.", valueName: "size"))
  var queueSize: String = "256M"

  /// The options, checked against each other.
  func options() throws(TraceError) -> LongRecordingOptions {
    var options = LongRecordingOptions()
    options.isLive = live
    for text in rotate { try Self.add(rotation: text, to: &options) }
    if let keep {
      guard !rotate.isEmpty || last != nil else { throw TraceError(.refused, "--keep \(keep): goes with --rotate or --last") }
      guard keep >= 1 else { throw TraceError(.refused, "--keep \(keep): 1 or more") }
      options.keep = keep
    }
    if let maxSize {
      options.maximumBytes = try Self.bytes(maxSize, "--max-size", from: 64 << 10, to: 1 << 60)
      guard rotate.isEmpty else {
        throw TraceError(.refused, "--max-size stops recording and --rotate goes on: with --rotate, --keep bounds the space")
      }
    }
    try addMemory(to: &options)
    if let sample { options.sample = try Self.sample(sample) }
    if let nice {
      guard (-20...19).contains(nice) else { throw TraceError(.refused, "--nice \(nice): -20 to 19") }
      options.nice = Int32(nice)
    }
    options.queueBytes = Int(try Self.bytes(queueSize, "--queue-size", from: 1 << 20, to: 64 << 30))
    return options
  }

  private func addMemory(to options: inout LongRecordingOptions) throws(TraceError) {
    guard let last else {
      guard when.isEmpty else { throw TraceError(.refused, "--when: goes with --last") }
      return
    }
    guard rotate.isEmpty, maxSize == nil else {
      throw TraceError(.refused, "--last keeps events in memory: --rotate and --max-size don't go with it; --keep bounds the traces")
    }
    guard let time = DurationText.nanoseconds(last), time >= 1_000_000, time <= 7 * 86_400_000_000_000 else {
      throw TraceError(.refused, "--last \(PrintableText.escaped(last)): 1ms to 168h, as 30s")
    }
    options.lastNanoseconds = time
    options.lastBytes = try Self.bytes(lastMemory, "--last-memory", from: 1 << 20, to: 1 << 40)
    for text in when {
      guard let condition = TriggerCondition(text) else {
        throw TraceError(
          .refused,
          "--when '\(PrintableText.escaped(text))': [OPERATION] latency > TIME, [OPERATION] errors, [OPERATION] error EIO,…, failure, or end"
        )
      }
      options.triggers.append(condition)
    }
  }

  /// `1GiB` or `10m`. A plain number could be either; `m` is minutes and `M` mebibytes.
  private static func add(rotation text: String, to options: inout LongRecordingOptions) throws(TraceError) {
    let shown = PrintableText.escaped(text)
    let wrong = TraceError(.refused, "--rotate \(shown): a size of 64K or more, as 1GiB, or a time of 1s or more, as 10m")
    let isTime = ["s", "m", "h"].contains { text.hasSuffix($0) }
    if isTime, options.rotateNanoseconds == nil, let time = DurationText.nanoseconds(text), time >= 1_000_000_000 {
      options.rotateNanoseconds = time
    } else if !isTime, options.rotateBytes == nil, text.last.map({ !$0.isNumber }) == true, let bytes = ByteCount.bytes(text),
      bytes >= 65_536
    {
      options.rotateBytes = bytes
    } else {
      throw wrong
    }
  }

  /// `1/8`, `1/8,files`, `1/8,threads`.
  private static func sample(_ text: String) throws(TraceError) -> SampleRule {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    let unit = parts.count == 2 ? SampleRule.Unit(rawValue: String(parts[1])) : parts.count == 1 ? .files : nil
    let numbers = parts[0].split(separator: "/", omittingEmptySubsequences: false)
    guard let unit, unit != .other, numbers.count == 2, numbers[0] == "1", let oneIn = UInt32(numbers[1]), oneIn >= 2 else {
      throw TraceError(.refused, "--sample \(PrintableText.escaped(text)): 1/N with N of 2 or more, as 1/8 or 1/8,threads")
    }
    return SampleRule(unit: unit, oneIn: UInt64(oneIn))
  }

  private static func bytes(
    _ text: String, _ flag: String, from least: UInt64, to most: UInt64
  ) throws(TraceError) -> UInt64 {
    guard let bytes = ByteCount.bytes(text), bytes >= least, bytes <= most else {
      throw TraceError(
        .refused, "\(flag) \(PrintableText.escaped(text)): \(ByteCount.text(least)) to \(ByteCount.text(most)), as 512K, 64M or 1GiB")
    }
    return bytes
  }
}
