import CTrace
import Glibc

/// Records a command by the preload route.
public enum ProgramRecorder {
  /// How it ended.
  public struct Outcome: Sendable {
    /// The program's wait(2) status.
    public var waitStatus: Int32
    public var summary: RecordingSummary
  }

  /// Why there is no recording.
  public enum Failure: Error, Sendable {
    /// The program was not started.
    case program(ProgramRefusal)
    /// The recorder failed before the program was started.
    case recorder(TraceError)
  }

  /// Runs the command to its end and writes the trace.
  public static func record(_ options: RecordingOptions) throws(Failure) -> Outcome {
    let program = try resolvedProgram(options)
    let running: Running
    do throws(TraceError) { running = try prepare(options) } catch { throw .recorder(error) }
    defer { running.session.remove() }
    let child: ChildProcess
    do throws(ProgramRefusal) {
      child = try ChildProcess(
        path: program, arguments: options.command, environment: running.environment, signals: running.signals)
    } catch {
      _ = running.collector.finish()
      _ = running.recording.join()
      unlink(options.output)
      throw .program(error)
    }
    return complete(options, running, child)
  }

  private static func resolvedProgram(_ options: RecordingOptions) throws(Failure) -> String {
    do throws(ProgramRefusal) {
      let searchPath = getenv("PATH").map { String(cString: $0) } ?? "/usr/local/bin:/usr/bin:/bin"
      let path = try ProgramCheck.resolve(options.command[0], searchPath: searchPath)
      try ProgramCheck.check(path)
      return path
    } catch { throw .program(error) }
  }

  /// Everything that stands ready when the program starts.
  private struct Running {
    var session: PreloadSession
    var environment: [String]
    var signals: (waited: sigset_t, former: sigset_t)
    var writer: TraceWriter
    var recording: RecordingWriter
    var collector: PreloadCollector
  }

  private static func prepare(_ options: RecordingOptions) throws(TraceError) -> Running {
    let session = try PreloadSession(ringBytes: options.ringBytes, onFull: options.onFull, parent: options.runFolder)
    do throws(TraceError) { return try prepare(options, session) } catch {
      session.remove()
      throw error
    }
  }

  private static func prepare(_ options: RecordingOptions, _ session: PreloadSession) throws(TraceError) -> Running {
    let environment = try environment(options, session)
    let signals = ChildProcess.blockSignals()
    let epoch = UInt64(ctrace_monotonic_ns())
    let writer = try makeWriter(options)
    let queue = CaptureQueue()
    let recording = RecordingWriter(queue: queue, session: session)
    let collector = PreloadCollector(session: session, queue: queue, epochNanoseconds: epoch)
    let files = RecordedFiles(filter: options.filter, anonymizer: options.anonymizer)
    try recording.start(writer: writer, files: files, epochNanoseconds: epoch)
    try collector.start()
    if options.waitForAll { ctrace_adopt_orphans() }
    return Running(
      session: session, environment: environment, signals: signals, writer: writer, recording: recording, collector: collector)
  }

  private static func complete(_ options: RecordingOptions, _ running: Running, _ child: ChildProcess) -> Outcome {
    child.waitForEnd()
    var kernelBytes = child.transferredBytes
    let status = child.reap()
    if options.waitForAll { child.waitForDescendants(adding: &kernelBytes) }
    let living = running.collector.finish()
    let result = running.recording.join()
    let summary = finish(options, running, result, kernelBytes: kernelBytes, living: living.count, status: status)
    return Outcome(waitStatus: status, summary: summary)
  }

  // MARK: Before

  /// The environment with the library and the run directory; the user's own preloaded libraries stay in front.
  private static func environment(_ options: RecordingOptions, _ session: PreloadSession) throws(TraceError) -> [String] {
    guard !options.library.contains(" "), !options.library.contains(":") else {
      throw TraceError(
        .refused,
        "\(PrintableText.escaped(options.library)): the loader takes no path with a space or colon; TRACE_PRELOAD_LIBRARY names a copy elsewhere"
      )
    }
    var entries: [String] = []
    var libraries = options.library
    var entry = environ
    while let text = entry.pointee {
      let value = String(cString: text)
      entry += 1
      if value.hasPrefix("LD_PRELOAD=") {
        let others = value.dropFirst("LD_PRELOAD=".count)
        if !others.isEmpty { libraries = "\(others):\(options.library)" }
      } else if !value.hasPrefix("\(PreloadSession.variable)=") {
        entries.append(value)
      }
    }
    return entries + ["LD_PRELOAD=\(libraries)", "\(PreloadSession.variable)=\(session.folder)"]
  }

  private static func makeWriter(_ options: RecordingOptions) throws(TraceError) -> TraceWriter {
    var metadata = TraceMetadata(source: "preload")
    metadata.epochUnixNanoseconds = ctrace_realtime_ns()
    metadata.host = HostFacts.current()
    metadata.clock = "CLOCK_MONOTONIC"
    metadata.tool = "trace-record \(ToolVersion.current)"
    if options.anonymizer == nil {
      metadata.command = options.command
      metadata.options = options.described
    } else {
      // Arguments, patterns and the host's name are names too.
      metadata.anonymized = true
      metadata.host?.hostName = ""
    }
    var writerOptions = TraceWriter.Options()
    writerOptions.overwrite = options.overwrite
    writerOptions.compressionLevel = options.compressionLevel
    return try TraceWriter(path: options.output, metadata: metadata, options: writerOptions)
  }

  // MARK: After

  private static func finish(
    _ options: RecordingOptions, _ running: Running, _ result: RecordingWriter.Outcome,
    kernelBytes: (read: UInt64, written: UInt64)?, living: Int, status: Int32
  ) -> RecordingSummary {
    let writer = running.writer
    var summary = RecordingSummary(
      output: options.output, totals: writer.totals, traceBytes: writer.sizeBytes, processes: result.processes.count,
      droppedEvents: result.droppedEvents, excludedEvents: result.excludedEvents, killedInCall: result.killedInCall,
      unrecordedCalls: result.unrecordedCalls,
      reads: .init(recordedBytes: result.bytesRead, kernelBytes: kernelBytes?.read),
      writes: .init(recordedBytes: result.bytesWritten, kernelBytes: kernelBytes?.written),
      costPerEventNanoseconds: RecordingCost.measure(options), mappings: Int(result.mappings),
      stdioStreams: Int(running.session.shared.pointee.stdio_streams),
      blindSpots: PreloadBlindSpots(running.session, result, namesAreHidden: options.anonymizer != nil), stillRunning: living,
      failure: result.failure)
    if summary.failure == nil {
      do throws(TraceError) {
        try writer.updateMetadata { metadata in
          metadata.costPerEventNanoseconds = summary.costPerEventNanoseconds
          metadata.summary = summary.figures
          metadata.summary?["wait_status"] = "\(status)"
        }
        summary.totals = try writer.finish(lossless: summary.isLossless)
      } catch { summary.failure = error }
    }
    summary.traceBytes = writer.sizeBytes
    return summary
  }
}
