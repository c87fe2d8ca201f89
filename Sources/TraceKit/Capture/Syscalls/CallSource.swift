import Glibc

/// Where a recording's system calls come from: programs in the kernel, or the kernel's own events.
struct CallSource {
  /// Never `auto`.
  let route: CallRoute
  /// Why it is this one.
  let reason: String
  let events: SyscallEvents
  /// Nil where tracefs reports the calls.
  let tracing: CallTracing?

  /// What the programs leave to tracefs are new tasks and the like.
  private static let tasksBufferBytes = 2 << 20

  /// Decides, and loads the programs. Nothing is recorded yet.
  /// - Throws: when the route that is asked for can't be taken, or none.
  init(_ options: TracingOptions, _ session: TracingSession) throws(TraceError) {
    if options.callRoute != .syscalls {
      do throws(TraceError) {
        let events = try SyscallEvents(session.tracefs.format, byPrograms: true)
        let hasUring = events.submit != nil
        let types = CallTracing.Types(
          calls: events.recordedCalls, memoryCalls: events.memoryCalls, submit: hasUring ? SyscallEvents.submitRecordType : 0)
        let tracing = try CallTracing(types, bufferBytes: options.bufferBytes)
        if tracing.hasUringRequests { events.takeRequestsFromPrograms() }
        self.events = events
        self.tracing = tracing
        route = .bpf
        reason = options.callRoute == .bpf ? "asked for" : "this kernel takes its programs"
        return
      } catch {
        guard options.callRoute == .auto else { throw Self.refused(error) }
        reason = "bpf is not possible: \(error.message)"
      }
    } else {
      reason = "asked for"
    }
    route = .syscalls
    events = try SyscallEvents(session.tracefs.format)
    tracing = nil
  }

  private static func refused(_ error: TraceError) -> TraceError {
    TraceError(error.kind, "--route bpf: \(error.message); '--route syscalls' does without programs in the kernel")
  }

  /// Memory of each CPU's buffer of the instance that reports tasks, in bytes.
  func tasksBufferBytes(_ options: TracingOptions) -> Int {
    tracing == nil ? options.bufferBytes : min(options.bufferBytes, Self.tasksBufferBytes)
  }
}
