extension SyscallCounters {
  /// By name, for `TraceMetadata.summary`.
  var figures: [String: String] {
    var figures: [String: String] = [
      "processes": "\(processes)", "threads": "\(threads)", "in_flight_at_attach": "\(inFlightAtAttach)",
      "in_flight_at_end": "\(inFlightAtEnd)", "ended_in_call": "\(endedInCall)", "half_calls": "\(halfCalls)",
      "uncertain_calls": "\(uncertainCalls)", "kernel_events": "\(kernelEvents)", "kernel_events_lost": "\(kernelEventsLost)",
      "lost_calls": "\(lostCalls)", "malformed_pages": "\(malformedPages)", "nameless_opens": "\(namelessOpens)",
      "requests_without_file": "\(requestsWithoutFile)", "shared_mappings": "\(sharedMappings)",
      "recorded_read_bytes": "\(countedReadBytes)", "recorded_written_bytes": "\(countedWrittenBytes)",
      "aio_submitted": "\(aioSubmitted)", "aio_completed": "\(aioCompleted)", "io_uring_completions": "\(uringCompletions)",
    ]
    if let bytes = kernelReadBytes { figures["kernel_read_bytes"] = "\(bytes)" }
    if let bytes = kernelWrittenBytes { figures["kernel_written_bytes"] = "\(bytes)" }
    for (name, count) in calls { figures["calls_\(name)"] = "\(count)" }
    for (name, count) in uringRequests { figures["io_uring_\(name)"] = "\(count)" }
    return figures
  }

  /// For people.
  var lines: [String] {
    var lines = ["\(processes) processes, \(kernelEvents) kernel events, lost: \(kernelEventsLost)\(lossRemedy)"]
    if halfCalls + uncertainCalls > 0 {
      lines.append("calls of which one end was lost: \(halfCalls); of uncertain latency: \(uncertainCalls)")
    }
    if inFlightAtAttach + inFlightAtEnd + endedInCall > 0 {
      lines.append("calls in flight at attach: \(inFlightAtAttach), at the end: \(inFlightAtEnd), when their thread ended: \(endedInCall)")
    }
    if let line = coverageLine { lines.append(line) }
    if !uringRequests.isEmpty {
      let kinds = uringRequests.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.value) \($0.key)" }
      lines.append("io_uring: \(kinds.joined(separator: ", ")); \(uringCompletions) completed; their offsets need the preload or block route")
    }
    if aioSubmitted + aioCompleted > 0 {
      lines.append(
        "libaio: \(aioSubmitted) requests submitted, \(aioCompleted) completed; what they ask for needs the preload or block route")
    }
    if namelessOpens > 0 { lines.append("opened files closed before their name could be read: \(namelessOpens)") }
    if requestsWithoutFile > 0 { lines.append("requests on files that are not known: \(requestsWithoutFile)") }
    if sharedMappings > 0 { lines.append("blind spots met: I/O through \(sharedMappings) shared file mappings") }
    return lines
  }

  private var lossRemedy: String {
    kernelEventsLost > 0 ? " (\(lostCalls) whole calls; the kernel's buffers were full, --buffer-size gives them more room)" : ""
  }

  private var coverageLine: String? {
    guard let kernelReadBytes, let kernelWrittenBytes else { return nil }
    func difference(_ recorded: UInt64, _ kernel: UInt64) -> String {
      if recorded == kernel { return "equal" }
      return recorded < kernel ? "\(kernel - recorded) bytes not seen" : "\(recorded - kernel) bytes more"
    }
    return "coverage by /proc/PID/io: read \(countedReadBytes) of \(kernelReadBytes) bytes "
      + "(\(difference(countedReadBytes, kernelReadBytes))), written \(countedWrittenBytes) of \(kernelWrittenBytes) "
      + "(\(difference(countedWrittenBytes, kernelWrittenBytes)))"
  }
}
