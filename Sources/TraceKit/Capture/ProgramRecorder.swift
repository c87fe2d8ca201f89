import CTrace
import Glibc

/// Records a command by the route that serves: the preload route is here.
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
    let (program, choice) = try resolvedProgram(options)
    if let route = choice.callRoute { return try SyscallProgramRecorder.record(program, options, route, reason: choice.reason) }
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
      running.output.discard()
      throw .program(error)
    }
    var outcome = complete(options, running, child)
    outcome.summary.notes.insert("route: preload (\(choice.reason))", at: 0)
    return outcome
  }

  private static func resolvedProgram(_ options: RecordingOptions) throws(Failure) -> (String, RecordingRoute.Choice) {
    do throws(ProgramRefusal) {
      let searchPath = getenv("PATH").map { String(cString: $0) } ?? "/usr/local/bin:/usr/bin:/bin"
      let path = try ProgramCheck.resolve(options.command[0], searchPath: searchPath)
      return (path, try options.route.choose(program: path))
    } catch { throw .program(error) }
  }

  /// Everything that stands ready when the program starts.
  private struct Running {
    var session: PreloadSession
    var environment: [String]
    var signals: (waited: sigset_t, former: sigset_t)
    var output: RecordingOutput
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
    let signals = ChildProcess.blockSignals(except: options.long.triggerSignal)
    let epoch = UInt64(ctrace_monotonic_ns())
    let output = try makeOutput(options, epochNanoseconds: epoch)
    let queue = CaptureQueue(limitBytes: options.long.queueBytes)
    let recording = RecordingWriter(queue: queue, output: output, nice: options.long.nice) { session.stop() }
    let collector = PreloadCollector(session: session, queue: queue, epochNanoseconds: epoch, nice: options.long.nice)
    let files = RecordedFiles(filter: options.filter, anonymizer: options.anonymizer, sample: options.long.sample)
    try recording.start(files: files, epochNanoseconds: epoch)
    try collector.start()
    if options.waitForAll { ctrace_adopt_orphans() }
    return Running(
      session: session, environment: environment, signals: signals, output: output, recording: recording, collector: collector)
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

  private static func makeOutput(_ options: RecordingOptions, epochNanoseconds: UInt64) throws(TraceError) -> RecordingOutput {
    var metadata = TraceMetadata(source: "preload")
    metadata.epochUnixNanoseconds = ctrace_realtime_ns()
    metadata.host = HostFacts.current()
    metadata.clock = "CLOCK_MONOTONIC"
    metadata.tool = "trace-record \(ToolVersion.current)"
    if options.anonymizer == nil {
      metadata.command = options.command
      metadata.options = options.described.merging(options.long.described) { given, _ in given }
    } else {
      // Arguments, patterns and the host's name are names too.
      metadata.anonymized = true
      metadata.options = options.long.described
      metadata.host?.hostName = ""
    }
    metadata.costPerEventNanoseconds = RecordingCost.measure(options)
    var writerOptions = TraceWriter.Options()
    writerOptions.overwrite = options.overwrite
    writerOptions.compressionLevel = options.compressionLevel
    return try RecordingOutput(
      path: options.output, metadata: metadata, options: writerOptions, long: options.long, epochNanoseconds: epochNanoseconds)
  }

  // MARK: After

  /// How the program failed, from its wait(2) status; nil when it did not.
  private static func programFailure(_ status: Int32) -> String? {
    if ctrace_signaled(status) != 0 { return "ended by signal \(ctrace_term_signal(status))" }
    let own = ctrace_exit_status(status)
    return own == 0 ? nil : "ended with status \(own)"
  }

  private static func finish(
    _ options: RecordingOptions, _ running: Running, _ result: RecordingWriter.Outcome,
    kernelBytes: (read: UInt64, written: UInt64)?, living: Int, status: Int32
  ) -> RecordingSummary {
    let unseen = PreloadBlindSpots(running.session, result)
    let showsNames = options.anonymizer == nil
    var summary = running.recording.finish(programFailure: programFailure(status)) { ledger in
      let explanation = "calls inside libc: the loader, locales, names"
      ledger.coverage = [
        .init(
          source: "/proc/PID/io", counter: "read", unit: "bytes", recorded: result.bytesRead, kernel: kernelBytes?.read,
          explanation: explanation),
        .init(
          source: "/proc/PID/io", counter: "written", unit: "bytes", recorded: result.bytesWritten, kernel: kernelBytes?.written,
          explanation: explanation),
      ]
      for spot in unseen.spots { ledger.note(blindSpot: spot.name, count: spot.count, remedy: spot.remedy) }
    } metadata: { metadata in
      metadata.summary = ["wait_status": "\(status)", "processes_still_running": "\(living)"]
      if showsNames, !unseen.programs.isEmpty { metadata.summary?["unrecorded_programs"] = unseen.programs.joined(separator: "; ") }
    }
    summary.stillRunning = living
    summary.notes += unseen.programs.map { "started and not recorded: \($0)" }
    summary.remedies = [
      .ringFull: "--ring-size gives more room, --on-full block waits", .noRing: "no room in the run directory; --run-dir",
    ]
    return summary
  }
}
