import Glibc

/// How a recording goes on for long: pieces, limits, and what of the machine it may use. The same for every route.
public struct LongRecordingOptions: Sendable {
  /// A new trace is begun when one of these is reached.
  public var rotateBytes: UInt64?
  public var rotateNanoseconds: Int64?
  /// Most pieces that are kept, the one that is being written included; older ones are removed. Nil keeps all.
  public var keep: Int?
  /// Recording stops before the trace grows beyond this.
  public var maximumBytes: UInt64?
  /// Keep the last so many nanoseconds in memory, and write them when a trigger comes. Nil writes everything as it comes.
  public var lastNanoseconds: Int64?
  /// Most memory that those events may take.
  public var lastBytes: UInt64 = 256 << 20
  /// What makes a recorder in memory write, beside SIGUSR1 and `trace-record trigger`.
  public var triggers: [TriggerCondition] = []
  /// Record some files or threads only.
  public var sample: SampleRule?
  /// Nice value of the recorder's threads; nil lets them go ahead of others where that is allowed.
  public var nice: Int32?
  /// Memory for what was drained and is not written yet.
  public var queueBytes = 256 << 20
  /// Show rates, latencies and losses while the recording runs.
  public var isLive = false
  /// Takes sentences for the user while the recording runs.
  public var report: @Sendable (String) -> Void = { StandardError.write("trace-record: \($0)\n") }

  public init() {}

  /// The signal that makes a recorder in memory write; nil when it means nothing to the recorder.
  var triggerSignal: Int32? { lastNanoseconds == nil ? nil : SIGUSR1 }

  var isRotating: Bool { rotateBytes != nil || rotateNanoseconds != nil }

  /// The options for a trace's metadata, by flag name.
  public var described: [String: String] {
    var options: [String: String] = [:]
    if let rotateBytes { options["rotate_bytes"] = "\(rotateBytes)" }
    if let rotateNanoseconds { options["rotate_ns"] = "\(rotateNanoseconds)" }
    if let keep { options["keep"] = "\(keep)" }
    if let maximumBytes { options["max_size_bytes"] = "\(maximumBytes)" }
    if let lastNanoseconds { options["last_ns"] = "\(lastNanoseconds)" }
    if !triggers.isEmpty { options["when"] = triggers.map(\.text).joined(separator: "; ") }
    if let nice { options["nice"] = "\(nice)" }
    return options
  }
}
