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

  fileprivate init(builder: RequestBuilder) { self.builder = builder }

  fileprivate func hasRoom(for requests: Int) -> Bool {
    let more = requests / RequestBatch.capacity + 1
    return (batches.count + more) * RequestBatch.memoryBytes <= Self.maximumBytes
  }

  fileprivate func newBatch() -> RequestBatch {
    let batch = RequestBatch()
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
    let events = EventBatch(capacity: 1024)
    var output = store.newBatch()
    try filter.begin(reader)
    while try reader.next(into: events), !filter.isPast(events, of: reader) {
      if store.nextEvent == nil, !store.hasRoom(for: events.count) {
        store.nextEvent = events.firstEvent
        store.builder = builder
        output = RequestBatch()
      }
      for i in 0..<events.count {
        let number = events.firstEvent + UInt64(i)
        if !builder.fits(output, number: number) {
          if store.nextEvent == nil { output = store.newBatch() } else { output.count = 0 }
        }
        guard builder.build(events.events + i, number: number, into: output) else { continue }
        let request = output.requests + (output.count - 1)
        survey.add(
          request, due: schedule.due(startNanoseconds: request.pointee.startNanoseconds, ordinal: builder.issued - 1))
      }
    }
    if store.nextEvent == nil { store.builder = builder }
    return (survey, builder.notReplayed, store)
  }
}
