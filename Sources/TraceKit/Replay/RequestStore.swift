import CTrace

/// The first requests of a trace, as the survey made them: they are replayed without being decoded again, so that for most traces
/// nothing competes with the replay for CPUs. What does not fit is decoded while the replay runs.
final class RequestStore {
  /// Most memory of the kept requests.
  static let maximumBytes = 36 << 20
  fileprivate(set) var batches: [RequestBatch] = []
  /// Number of the first event that was not kept; nil when all were.
  fileprivate(set) var nextEvent: UInt64?
  /// The builder as it was before that event.
  fileprivate(set) var builder: RequestBuilder

  private let memory = Memory()

  /// Where the batches' requests lie; it lives as long as one of them.
  private final class Memory {
    let start: UnsafeMutableRawPointer?

    init() {
      start = ctrace_map_memory(RequestStore.maximumBytes)
      if let start { ctrace_use_huge_pages(start, RequestStore.maximumBytes) }
    }

    deinit { if let start { munmap(start, RequestStore.maximumBytes) } }
  }

  fileprivate init(builder: RequestBuilder) { self.builder = builder }

  /// Room for one more batch; nil when the memory is used up.
  fileprivate func newBatch() -> RequestBatch? {
    let used = batches.count * RequestBatch.memoryBytes
    guard let start = memory.start, used + RequestBatch.memoryBytes <= Self.maximumBytes else { return nil }
    let batch = RequestBatch(memory: start + used, owner: memory)
    batches.append(batch)
    return batch
  }
}

extension TraceSurvey {
  /// Reads the chosen part of a trace once.
  /// - Returns: what it will touch, what of it is not replayed, and its first requests.
  static func take(
    _ reader: TraceReader, builder: RequestBuilder, filter: EventFilter, schedule: ReplaySchedule
  ) throws(TraceError) -> (survey: TraceSurvey, notReplayed: [String: UInt64], store: RequestStore) {
    var survey = TraceSurvey(fileCount: reader.files.count)
    var builder = builder
    let store = RequestStore(builder: builder)
    let scratch = RequestBatch()
    var output = store.newBatch() ?? scratch
    let pipeline = try EventPipeline(reader, filter)
    defer { pipeline.finish() }
    var isFirst = true
    while let events = try pipeline.next(isFirst: isFirst) {
      isFirst = false
      var index = 0
      while true {
        builder.fill(output, events.events, &index, count: events.count, firstNumber: events.firstEvent)
        guard index < events.count else { break }
        survey.add(output)
        output = store.nextEvent == nil ? store.newBatch() ?? scratch : scratch
        output.count = 0
        if output === scratch, store.nextEvent == nil {
          store.nextEvent = events.firstEvent + UInt64(index)
          store.builder = builder
        }
      }
    }
    survey.add(output)
    survey.finish(schedule: schedule, requests: builder.issued, recordedLatencies: builder.recordedLatencies)
    if store.nextEvent == nil { store.builder = builder }
    return (survey, builder.notReplayed, store)
  }
}
