extension SyscallCounters {
  /// By name, for `TraceMetadata.summary`.
  var figures: [String: String] {
    var figures: [String: String] = [
      "processes": "\(processes)", "threads": "\(threads)", "in_flight_at_attach": "\(inFlightAtAttach)",
      "in_flight_at_end": "\(inFlightAtEnd)", "ended_in_call": "\(endedInCall)", "calls_without_end": "\(callsWithoutEnd)",
      "calls_without_begin": "\(callsWithoutBegin)",
      "uncertain_calls": "\(uncertainCalls)", "kernel_events": "\(kernelEvents)", "kernel_events_lost": "\(kernelEventsLost)",
      "lost_calls": "\(lostCalls)", "malformed_pages": "\(malformedPages)", "nameless_opens": "\(namelessOpens)",
      "requests_without_file": "\(requestsWithoutFile)", "shared_mappings": "\(sharedMappings)",
      "recorded_read_bytes": "\(countedReadBytes)", "recorded_written_bytes": "\(countedWrittenBytes)",
      "aio_submitted": "\(aioSubmitted)", "aio_completed": "\(aioCompleted)", "aio_read": "\(aioRead)",
      "calls_32_bit": "\(calls32Bit)", "aio_matched": "\(aioMatched)", "io_uring_completions": "\(uringCompletions)",
      "io_uring_without_offset": "\(uringWithoutOffset)",
    ]
    if let bytes = kernelReadBytes { figures["kernel_read_bytes"] = "\(bytes)" }
    if let bytes = kernelWrittenBytes { figures["kernel_written_bytes"] = "\(bytes)" }
    for (name, count) in calls { figures["calls_\(name)"] = "\(count)" }
    for (name, count) in uringRequests { figures["io_uring_\(name)"] = "\(count)" }
    return figures
  }

  /// Sentences for the summary, beside the ledger.
  var lines: [String] {
    var lines = ["\(processes) processes followed, \(kernelEvents) kernel events decoded, \(kernelEventsLost) lost by the kernel"]
    if kernelEventsLost > 0 { lines[0] += ": \(lostCalls) whole calls, and one of the two events of \(halfCalls)" }
    if uncertainCalls > 0 { lines.append("\(uncertainCalls) calls around losses have no latency: they may be two") }
    if inFlightAtAttach + inFlightAtEnd + endedInCall > 0 {
      lines.append("calls in flight at attach: \(inFlightAtAttach), at the end: \(inFlightAtEnd), when their thread ended: \(endedInCall)")
    }
    if !uringRequests.isEmpty {
      let kinds = uringRequests.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.value) \($0.key)" }
      lines.append("io_uring: \(kinds.joined(separator: ", ")); \(uringCompletions) completed")
    }
    if aioSubmitted + aioCompleted > 0 { lines.append("libaio: \(aioSubmitted) requests submitted, \(aioCompleted) completed") }
    return lines
  }

  /// Adds what the route knows to the ledger of a recording.
  func fill(_ ledger: inout RecordingLedger) {
    let explanation = "what a program reads to execute another, processes that ended unrecorded, calls while the counters are read"
    ledger.coverage = [
      .init(
        source: "/proc/PID/io", counter: "read", unit: "bytes", recorded: countedReadBytes, kernel: kernelReadBytes,
        explanation: explanation),
      .init(
        source: "/proc/PID/io", counter: "written", unit: "bytes", recorded: countedWrittenBytes, kernel: kernelWrittenBytes,
        explanation: explanation),
    ]
    let offsets = isByPrograms ? "the preload and block routes know them" : "the preload, bpf and block routes know them"
    ledger.note(blindSpot: "shared file mappings", count: sharedMappings, remedy: "reads and writes of mapped memory are no calls")
    ledger.note(blindSpot: "io_uring requests without offset", count: uringWithoutOffset, remedy: offsets)
    ledger.note(
      blindSpot: "libaio requests of which only the number is known", count: aioSubmitted - min(aioRead, aioSubmitted), remedy: offsets)
    ledger.note(blindSpot: "calls of 32-bit programs", count: calls32Bit, remedy: "no route of system calls records them")
    ledger.note(
      blindSpot: "libaio requests whose completion no call showed", count: aioRead - min(aioMatched, aioRead),
      remedy: "they are in flight at the end, or were taken out of the ring in the program's memory")
    ledger.note(blindSpot: "opened files closed before their name could be read", count: namelessOpens)
    ledger.note(blindSpot: "requests on files that are not known", count: requestsWithoutFile)
    ledger.note(blindSpot: "pages of events that could not be decoded", count: malformedPages)
  }
}
