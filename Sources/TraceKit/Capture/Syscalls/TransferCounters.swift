/// What the kernel counts of processes (rchar and wchar of /proc/PID/io) between two moments, for the coverage of a recording.
///
/// One thread calls `begin` and `end`; others ask only for what was counted when they know that the end was.
final class TransferCounters: @unchecked Sendable {
  typealias Bytes = (read: UInt64, written: UInt64)
  private var before: [Int32: Bytes] = [:]
  private var after: [Int32: Bytes] = [:]

  /// Reads the counters of the processes that are there.
  func begin(_ processes: [Int32]) { for process in processes { before[process] = ChildProcess.transferredBytes(process) } }

  /// Reads the counters of all processes: those that came since belong to what was recorded.
  func end() { for process in AttachTarget.allProcesses() { after[process] = ChildProcess.transferredBytes(process) } }

  /// Bytes between the two moments; nil for a process that was gone at the end.
  func transferred(_ process: Int32) -> Bytes? {
    guard let now = after[process] else { return nil }
    let before = before[process] ?? (0, 0)
    return (now.read &- min(now.read, before.read), now.written &- min(now.written, before.written))
  }
}
