/// What to record of a command, and how.
public struct RecordingOptions: Sendable {
  /// The program and its arguments.
  public var command: [String]
  /// The trace's path.
  public var output: String
  /// Replace an existing trace.
  public var overwrite = false
  public var filter = PathFilter()
  /// Hides the names of files.
  public var anonymizer: PathAnonymizer?
  public var onFull = PreloadSession.FullRing.drop
  /// Memory of each thread's ring.
  public var ringBytes = 2 << 20
  /// Where the run directory is made; nil for the first that serves of /dev/shm, $XDG_RUNTIME_DIR and /tmp.
  public var runFolder: String?
  /// Wait for every process that the program started, not for the program only.
  public var waitForAll = false
  /// deflate level, 1…9.
  public var compressionLevel = TraceWriter.defaultCompressionLevel
  /// Absolute path of libtracepreload.so.
  public var library: String
  /// The command that measures the cost of a recorded call: it prints nanoseconds per call. Nil measures nothing.
  public var calibration: [String]?
  public var long = LongRecordingOptions()
  public var route = RecordingRoute.auto
  /// The command that removes the syscalls route's tracing instance when the recorder is killed.
  public var guardian: [String]?
  /// Options as the user gave them, for the trace's metadata.
  public var described: [String: String] = [:]

  public init(command: [String], output: String, library: String) {
    self.command = command
    self.output = output
    self.library = library
  }
}
