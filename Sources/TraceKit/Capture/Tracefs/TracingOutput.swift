import CTrace

/// The trace of a recording through tracefs: made before anything is traced, closed with what was found out.
struct TracingOutput {
  private let output: RecordingOutput
  private let recording: RecordingWriter
  let queue: CaptureQueue
  let epochNanoseconds: UInt64
  /// Set when no more events are wanted: a full disk, a limit.
  let stopped: StopFlag

  final class StopFlag: @unchecked Sendable {
    private let word: UnsafeMutablePointer<UInt32>
    init() {
      word = .allocate(capacity: 1)
      word.initialize(to: 0)
    }
    deinit { word.deallocate() }
    var isSet: Bool { ctrace_load_acquire32(word) != 0 }
    func set() { ctrace_store_release32(word, 1) }
  }

  /// - Parameter source: the route's name.
  init(_ options: TracingOptions, source: String, detail: String, costPerEventNanoseconds: Double? = nil) throws(TraceError) {
    var metadata = TraceMetadata(source: source)
    metadata.epochUnixNanoseconds = ctrace_realtime_ns()
    epochNanoseconds = UInt64(ctrace_monotonic_ns())
    metadata.host = HostFacts.current()
    metadata.clock = "CLOCK_MONOTONIC"
    metadata.tool = "trace-record \(ToolVersion.current)"
    metadata.costPerEventNanoseconds = costPerEventNanoseconds
    if options.anonymizer == nil {
      metadata.sourceDetail = detail
      metadata.command = options.command
      metadata.options = options.described.merging(options.long.described) { given, _ in given }
    } else {
      // Patterns, names of processes and of the host are names too.
      metadata.anonymized = true
      metadata.options = options.long.described
      metadata.host?.hostName = ""
    }
    var writerOptions = TraceWriter.Options()
    writerOptions.overwrite = options.overwrite
    writerOptions.compressionLevel = options.compressionLevel
    let output = try RecordingOutput(
      path: options.output, metadata: metadata, options: writerOptions, long: options.long, epochNanoseconds: epochNanoseconds)
    self.output = output
    queue = CaptureQueue(limitBytes: options.long.queueBytes)
    let flag = StopFlag()
    stopped = flag
    recording = RecordingWriter(queue: queue, output: output, nice: options.long.nice) { flag.set() }
    try recording.start(
      files: RecordedFiles(filter: options.filter, anonymizer: options.anonymizer, sample: options.long.sample),
      epochNanoseconds: epochNanoseconds)
  }

  /// Ends the writer's thread of a recording that never began.
  func abandon() {
    var last = CaptureRound(slotCapacity: 0)
    last.watermark = Int64.max
    last.isLast = true
    queue.put(last)
    _ = recording.join()
    output.discard()
  }

  /// Closes the trace; the last round must have been handed over.
  func finish(
    _ complete: (inout RecordingLedger) -> Void, metadata change: (inout TraceMetadata) -> Void
  ) -> RecordingSummary {
    recording.join()
    return recording.finish(complete, metadata: change)
  }

  static let remedies: [GapCause: String] = [.ringFull: "--kernel-buffer gives the kernel's buffers more room"]
}
