/// What the bpf and syscalls routes counted, as plain values.
public struct SyscallCounters: Sendable {
  /// Calls that became events, by the name of the system call.
  public var calls: [String: UInt64] = [:]
  /// io_uring requests by operation; those that moved data or durability became events.
  public var uringRequests: [String: UInt64] = [:]
  /// Completions of io_uring that were seen.
  public var uringCompletions: UInt64 = 0
  /// Reads and writes of io_uring, on files that have offsets, of which the offset is not known.
  public var uringWithoutOffset: UInt64 = 0
  /// Programs in the kernel recorded the calls.
  public var isByPrograms = false
  /// Calls of 32-bit programs that were left out, as far as they were noticed.
  public var calls32Bit: UInt64 = 0
  /// Requests that io_submit took and events that io_getevents gave.
  public var aioSubmitted: UInt64 = 0
  public var aioCompleted: UInt64 = 0
  /// Submitted requests of libaio that could be read, and those of them whose completion was seen.
  public var aioRead: UInt64 = 0
  public var aioMatched: UInt64 = 0
  /// Calls whose end was seen and whose begin lies before the recording, or the other way round at its end.
  public var inFlightAtAttach: UInt64 = 0
  public var inFlightAtEnd: UInt64 = 0
  /// Calls in which their thread ended.
  public var endedInCall: UInt64 = 0
  /// Calls of which the kernel dropped one of the two events: the end (these are no events of the trace), or the begin (these
  /// are, without file and latency).
  public var callsWithoutEnd: UInt64 = 0
  public var callsWithoutBegin: UInt64 = 0
  /// Calls of which one of the two events is missing.
  public var halfCalls: UInt64 { callsWithoutEnd + callsWithoutBegin }
  /// Calls that may be two different ones: events were lost between begin and end. Their latency is not recorded.
  public var uncertainCalls: UInt64 = 0
  /// Events of tracefs and records of programs in the kernel that were decoded, and that the kernel could not store, by its own counters.
  public var kernelEvents: UInt64 = 0
  public var kernelEventsLost: UInt64 = 0
  /// Pages of the kernel's ring buffer that could not be decoded.
  public var malformedPages: UInt64 = 0
  /// Opened descriptions whose name could not be found out: they were closed too soon.
  public var namelessOpens: UInt64 = 0
  /// Requests without a known file.
  public var requestsWithoutFile: UInt64 = 0
  /// Processes that were followed.
  public var processes: UInt64 = 0
  /// Threads that were followed.
  public var threads: UInt64 = 0
  /// Shared file mappings of the processes at attach: I/O through them is invisible.
  public var sharedMappings: UInt64 = 0
  /// Bytes of transfers that the kernel counts in rchar and wchar too.
  public var countedReadBytes: UInt64 = 0
  public var countedWrittenBytes: UInt64 = 0
  /// The same by the kernel's count; nil where it is not known.
  public var kernelReadBytes: UInt64?
  public var kernelWrittenBytes: UInt64?

  public init() {}

  /// Calls that were lost whole: each would have had two events.
  public var lostCalls: UInt64 { kernelEventsLost > halfCalls ? (kernelEventsLost - halfCalls + 1) / 2 : 0 }
}
