/// What the routes through tracefs share.
public struct TracingOptions: Sendable {
  /// The trace's path.
  public var output: String
  /// Replace an existing trace.
  public var overwrite = false
  public var filter = PathFilter()
  /// Hides the names of files.
  public var anonymizer: PathAnonymizer?
  /// deflate level, 1…9.
  public var compressionLevel = TraceWriter.defaultCompressionLevel
  /// How long to record, in nanoseconds; nil until a signal, or until nothing is left to record.
  public var durationNanoseconds: Int64?
  /// Memory of each CPU's kernel buffer, in bytes.
  public var bufferBytes = defaultBufferBytes
  /// Which route of system calls.
  public var callRoute = CallRoute.auto
  /// The command that removes the tracing instance when the recorder is killed; its standard input ends with the recorder.
  public var guardian: [String]?
  /// Rotation, limits, triggers, samples.
  public var long = LongRecordingOptions()
  /// The program and its arguments, when the recorder starts it.
  public var command: [String]?
  /// Measure what a call costs before attaching.
  public var measuresCost = true
  /// Called when everything is recorded from here on; a line for people.
  public var whenReady: (@Sendable (String) -> Void)?
  /// Options as the user gave them, for the trace's metadata.
  public var described: [String: String] = [:]

  public static let defaultBufferBytes = 16 << 20

  public init(output: String) { self.output = output }
}
