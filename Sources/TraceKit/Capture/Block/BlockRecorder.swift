import CTrace
import Glibc

/// Records the requests of block devices through tracefs.
public enum BlockRecorder {
  public struct Outcome: Sendable {
    public var summary: RecordingSummary
    public var counters: BlockCounters
  }

  /// Records the devices at `paths` until the end.
  /// - Throws: when nothing could be recorded; a failure on the way is in the summary.
  public static func record(_ paths: [String], _ options: TracingOptions) throws(TraceError) -> Outcome {
    let devices = try BlockDevice.resolve(paths)
    // Requests are far fewer than calls: the thread that drains can sleep longer.
    let session = try TracingSession(purpose: "trace-record block", options: options, pauseMicroseconds: (2000, 20_000))
    defer { session.end() }
    let events = try BlockEvents(
      session.tracefs.format, hasRequests: devices.contains { $0.hasRequests }, hasBios: devices.contains { !$0.hasRequests })
    let output = try TracingOutput(options, source: "block", detail: paths.joined(separator: " "))
    do throws(TraceError) {
      return try record(devices, session, events, options, output)
    } catch {
      output.abandon()
      throw error
    }
  }

  private static func record(
    _ devices: [BlockDevice], _ session: TracingSession, _ events: BlockEvents, _ options: TracingOptions, _ output: TracingOutput
  ) throws(TraceError) -> Outcome {
    let instance = try session.makeInstance(bufferBytes: options.bufferBytes / 4)
    for name in events.names {
      try instance.set("events/block/\(name)/filter", filter(name, devices))
      try instance.enable("block", name)
    }
    try session.drain.start()
    let before = devices.map { $0.statistics }
    try instance.set("tracing_on", "1")
    let start = UInt64(ctrace_monotonic_ns())
    let decoder = BlockDecoder(
      events: events, scope: .init(epochNanoseconds: output.epochNanoseconds, startNanoseconds: start, devices: devices),
      layout: session.layout, streams: session.drain.streamCount, from: session.queue, to: output.queue)
    try decoder.start()
    options.whenReady?("recording \(devices.map { PrintableText.escaped($0.path) }.joined(separator: ", "))")
    TracingSession.wait(options.durationNanoseconds, isOver: { output.stopped.isSet }, tick: {})
    session.stopTracing()
    let after = devices.map { $0.statistics }
    session.drain.finish()
    var counters = decoder.join()
    counters.kernelEventsLost = session.drain.totals.lostEvents
    for (number, device) in devices.enumerated() where device.hasRequests {
      if let early = before[number], let late = after[number] { counters.devices[number].kernel = late.since(early) }
    }
    var summary = output.finish { ledger in
      counters.fill(&ledger)
    } metadata: { metadata in
      metadata.summary = counters.figures
    }
    summary.notes = counters.lines + summary.notes
    summary.remedies = TracingOutput.remedies
    return Outcome(summary: summary, counters: counters)
  }

  /// The kernel itself leaves other devices out.
  private static func filter(_ event: String, _ devices: [BlockDevice]) -> String {
    let isOfBios = event == "block_bio_queue" || event == "block_bio_complete"
    let numbers = devices.filter { $0.hasRequests != isOfBios }.map { isOfBios ? $0.device : $0.disk }
    return Set(numbers).sorted().map { "dev == \($0)" }.joined(separator: " || ")
  }
}
