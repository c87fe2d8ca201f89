import CTrace
import Testing

@testable import TraceKit

/// Submissions and completions in every order that several threads' rings can give.
struct CapturedRequestsTests {
  private var requests = CapturedRequests()

  private func record(_ phase: trace_record_phase, key: UInt64, at time: UInt64, result: Int64 = 0, flags: UInt32 = 0) -> trace_record {
    var record = trace_record()
    record.phase = UInt8(phase.rawValue)
    record.start_ns = time
    record.latency_ns = key
    record.operation = UInt8(TRACE_OP_WRITE.rawValue)
    record.flags = flags
    if phase == TRACE_PHASE_SUBMISSION {
      record.result = 7
      record.size = 4096
    } else {
      record.offset = 7
      record.result = result
    }
    return record
  }

  private mutating func take(_ record: trace_record, process: Int32 = 1) -> [TraceEvent] {
    var events: [TraceEvent] = []
    requests.take(record, processID: process, epochNanoseconds: 0) { events.append($0) }
    return events
  }

  @Test mutating func aCompletionEndsTheEarliestRequestOfItsKey() {
    #expect(take(record(TRACE_PHASE_SUBMISSION, key: 1, at: 100)).isEmpty)
    #expect(take(record(TRACE_PHASE_SUBMISSION, key: 1, at: 200)).isEmpty)
    #expect(take(record(TRACE_PHASE_COMPLETION, key: 2, at: 250, result: 1)).isEmpty)
    #expect(take(record(TRACE_PHASE_COMPLETION, key: 1, at: 300, result: 4096), process: 2).isEmpty)
    let first = take(record(TRACE_PHASE_COMPLETION, key: 1, at: 300, result: 4096))
    #expect(first.map(\.startNanoseconds) == [100] && first[0].latencyNanoseconds == 200 && first[0].result == 4096)
    #expect(first[0].flags.contains(.asynchronous) && first[0].sizeBytes == 4096)
    #expect(requests.earliestStart(now: 1000) == 200)
    #expect(take(record(TRACE_PHASE_COMPLETION, key: 1, at: 350, result: -5)).map(\.result) == [-5])
    #expect(requests.count == 0)
    requests.expire(now: 10_000_000_000)
    #expect(requests.unmatchedCompletions == 2)
  }

  @Test mutating func aCompletionMayBeDrainedBeforeItsRequest() {
    #expect(take(record(TRACE_PHASE_COMPLETION, key: 1, at: 300, result: 8)).isEmpty)
    #expect(take(record(TRACE_PHASE_SUBMISSION, key: 1, at: 290)).map(\.latencyNanoseconds) == [10])
    // From before the request: another's, or told twice.
    #expect(take(record(TRACE_PHASE_COMPLETION, key: 1, at: 310, result: 8)).isEmpty)
    #expect(take(record(TRACE_PHASE_SUBMISSION, key: 1, at: 400)).isEmpty)
    #expect(take(record(TRACE_PHASE_COMPLETION, key: 1, at: 450, result: 9)).map(\.result) == [9])
    #expect(requests.count == 0 && requests.unmatchedCompletions == 1)
  }

  @Test mutating func whatTheKernelRefusedIsTakenBackAndWhatGoesOnStays() {
    _ = take(record(TRACE_PHASE_SUBMISSION, key: 1, at: 100))
    _ = take(record(TRACE_PHASE_SUBMISSION, key: 1, at: 200))
    _ = take(record(TRACE_PHASE_WITHDRAWAL, key: 1, at: 210))
    #expect(requests.count == 1 && requests.earliestStart(now: 300) == 100)
    let more = record(TRACE_PHASE_COMPLETION, key: 1, at: 300, result: 10, flags: TRACE_COMPLETION_MORE.rawValue)
    #expect(take(more).map(\.latencyNanoseconds) == [200])
    #expect(take(record(TRACE_PHASE_COMPLETION, key: 1, at: 340, result: 11)).map(\.latencyNanoseconds) == [40])
    _ = take(record(TRACE_PHASE_SUBMISSION, key: 1, at: 400))
    #expect(take(record(TRACE_PHASE_COMPLETION, key: 1, at: 410, flags: TRACE_COMPLETION_NOTICE.rawValue)).isEmpty)
    #expect(requests.count == 0)
  }

  @Test mutating func unfinishedRequestsAreGivenWithoutResult() {
    for key in 0..<5 { _ = take(record(TRACE_PHASE_SUBMISSION, key: UInt64(key % 2), at: UInt64(100 + key))) }
    var events: [TraceEvent] = []
    requests.giveUnfinished { events.append($0) }
    #expect(events.map(\.startNanoseconds).sorted() == [100, 101, 102, 103, 104])
    #expect(events.allSatisfy { $0.latencyIfKnown == nil && $0.resultIfKnown == nil })
  }
}
