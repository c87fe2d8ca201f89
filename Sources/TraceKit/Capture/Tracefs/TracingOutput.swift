import CTrace

/// The trace of a recording through tracefs: made before anything is traced, closed with what was found out.
struct TracingOutput {
  let writer: TraceWriter
  let recording: RecordingWriter
  let queue: CaptureQueue
  let epochNanoseconds: UInt64
  /// Set when nothing more can be written.
  let failed: FailureFlag

  final class FailureFlag: @unchecked Sendable {
    private let word: UnsafeMutablePointer<UInt32>
    init() {
      word = .allocate(capacity: 1)
      word.initialize(to: 0)
    }
    deinit { word.deallocate() }
    var isSet: Bool { ctrace_load_acquire32(word) != 0 }
    func set() { ctrace_store_release32(word, 1) }
  }

  init(_ options: TracingOptions, source: String, detail: String) throws(TraceError) {
    var metadata = TraceMetadata(source: source)
    metadata.epochUnixNanoseconds = ctrace_realtime_ns()
    epochNanoseconds = UInt64(ctrace_monotonic_ns())
    metadata.host = HostFacts.current()
    metadata.clock = "CLOCK_MONOTONIC"
    metadata.tool = "trace-record \(ToolVersion.current)"
    if options.anonymizer == nil {
      metadata.sourceDetail = detail
      metadata.options = options.described
    } else {
      // Patterns, names of processes and of the host are names too.
      metadata.anonymized = true
      metadata.host?.hostName = ""
    }
    var writerOptions = TraceWriter.Options()
    writerOptions.overwrite = options.overwrite
    writerOptions.compressionLevel = options.compressionLevel
    writer = try TraceWriter(path: options.output, metadata: metadata, options: writerOptions)
    queue = CaptureQueue()
    let flag = FailureFlag()
    failed = flag
    recording = RecordingWriter(queue: queue) { flag.set() }
    try recording.start(
      writer: writer, files: RecordedFiles(filter: options.filter, anonymizer: options.anonymizer), epochNanoseconds: epochNanoseconds)
  }

  /// Ends the writer's thread of a recording that never began.
  func abandon() {
    var last = CaptureRound(slotCapacity: 0)
    last.watermark = Int64.max
    last.isLast = true
    queue.put(last)
    _ = recording.join()
    unlink(writer.path)
  }

  /// Closes the trace; the last round must have been handed over.
  func finish(_ summary: inout TracingSummary) {
    let result = recording.join()
    summary.totals = writer.totals
    summary.excludedEvents = result.excludedEvents
    summary.failure = result.failure
    if summary.failure == nil {
      do throws(TraceError) {
        let figures = summary.allFigures
        let cost = summary.costPerEventNanoseconds
        try writer.updateMetadata { metadata in
          metadata.costPerEventNanoseconds = cost
          metadata.summary = figures
        }
        summary.totals = try writer.finish(lossless: summary.isLossless)
      } catch { summary.failure = error }
    }
    summary.traceBytes = writer.sizeBytes
  }
}
