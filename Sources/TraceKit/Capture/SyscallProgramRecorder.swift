import CTrace
import Glibc

/// Records a command by a route of system calls: its process is made, attached to, and only then becomes the program, so that nothing
/// is missed.
enum SyscallProgramRecorder {
  /// Runs the program at `path` to its end and writes the trace.
  static func record(
    _ path: String, _ options: RecordingOptions, _ route: CallRoute, reason: String
  ) throws(ProgramRecorder.Failure) -> ProgramRecorder.Outcome {
    let signals = ChildProcess.blockSignals(except: options.long.triggerSignal)
    let gate: ProgramGate
    do throws(TraceError) {
      gate = try ProgramGate()
      try gate.start(path: path, arguments: options.command, mask: signals.former)
    } catch { throw .recorder(error) }
    let child = ChildProcess(processID: gate.processID, signals: signals)
    let waitsForAll = options.waitForAll
    let waiter: WorkerThread
    do throws(TraceError) {
      waiter = try WorkerThread {
        child.waitForEnd()
        // The recording ends with the program, or when all that it started have ended too.
        if !waitsForAll { ctrace_set_stop_signal(SIGCHLD) }
      }
    } catch {
      gate.giveUp()
      _ = child.reap()
      throw .recorder(error)
    }
    let result = attach(gate, options, route)
    waiter.join()
    let status = child.reap()
    switch result {
    case .failure(let error): throw .recorder(error)
    case .success(let outcome):
      if let code = gate.failure {
        unlink(options.output)
        throw .program(ProgramCheck.refusal(path, errno: code))
      }
      var summary = outcome.summary
      let detail = route == .auto ? "\(reason); \(outcome.reason)" : reason
      summary.notes.insert("route: \(outcome.route.rawValue) (\(detail))", at: 0)
      return ProgramRecorder.Outcome(waitStatus: status, summary: summary)
    }
  }

  private static func attach(
    _ gate: ProgramGate, _ options: RecordingOptions, _ route: CallRoute
  ) -> Result<SyscallRecorder.Outcome, TraceError> {
    var tracing = TracingOptions(output: options.output)
    tracing.callRoute = route
    tracing.overwrite = options.overwrite
    tracing.filter = options.filter
    tracing.anonymizer = options.anonymizer
    tracing.compressionLevel = options.compressionLevel
    tracing.long = options.long
    tracing.guardian = options.guardian
    tracing.measuresCost = options.calibration != nil
    tracing.described = options.described
    tracing.command = options.command
    tracing.whenReady = { _ in gate.open() }
    do throws(TraceError) {
      return .success(try SyscallRecorder.record(.processes([gate.processID]), tracing))
    } catch {
      gate.giveUp()
      return .failure(error)
    }
  }
}
