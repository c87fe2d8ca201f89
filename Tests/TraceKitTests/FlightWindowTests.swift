import Foundation
import Testing

@testable import TraceKit

@Suite struct FlightWindowTests {
  private func event(_ start: Int64, file: UInt32 = TraceEvent.unknownFile) -> TraceEvent {
    TraceEvent(
      startNanoseconds: start, operation: .read, file: file, offsetBytes: UInt64(bitPattern: start) &* 2_654_435_761 % 1_000_003,
      sizeBytes: 4096, latencyNanoseconds: 100, result: 4096, processID: 1, threadID: 1)
  }

  private func starts(_ snapshot: FlightWindow.Snapshot) -> [Int64] {
    var all: [Int64] = []
    var decoder = EventBlockDecoder()
    let batch = EventBatch(capacity: TraceFormat.maximumBlockEvents)
    for block in snapshot.blocks {
      _ = block.payload.withUnsafeBytes { decoder.open(block.header, payload: $0.baseAddress!, count: $0.count) }
      while decoder.remaining > 0, let count = decoder.read(into: batch.events, limit: batch.capacity) {
        for i in 0..<count { all.append(batch.events[i].startNanoseconds) }
      }
    }
    return all
  }

  @Test func whatIsOlderThanTheWindowGoes() {
    let window = FlightWindow(lengthNanoseconds: 1000, limitBytes: 1 << 30, compressionLevel: 1)
    for start in 0..<5000 {
      window.append(event(Int64(start)))
      if start % 100 == 99 { window.flush() }
    }
    let kept = starts(window.snapshot())
    #expect(kept.last == 4999 && (kept.first ?? 0) <= 3999 && (kept.first ?? 0) >= 3899)
    #expect(zip(kept, kept.dropFirst()).allSatisfy { $0 + 1 == $1 })
    #expect(window.snapshot().cutNanoseconds == nil)
  }

  @Test func namesGoWithTheEventsThatReferToThem() {
    let window = FlightWindow(lengthNanoseconds: 1000, limitBytes: 1 << 30, compressionLevel: 1)
    for round in 0..<50 {
      let start = Int64(round) * 500
      _ = window.renewNames(at: start)
      window.append(event(start, file: window.addFile(TraceFile(path: Array("/file-\(round)".utf8)))))
      window.flush()
    }
    let snapshot = window.snapshot()
    #expect(snapshot.files.count <= 4)
    #expect(Set(snapshot.blocks.map(\.generation)).isSubset(of: snapshot.files.keys))
    #expect(window.bytes < 4000)
  }

  @Test func memoryIsBoundedAndTheCutIsRemembered() {
    let limit: UInt64 = 20_000
    let window = FlightWindow(lengthNanoseconds: Int64.max / 4, limitBytes: limit, compressionLevel: 1)
    for start in 0..<200_000 {
      window.append(event(Int64(start)))
      if start % 1000 == 999 { window.flush() }
    }
    #expect(window.bytes <= limit)
    let snapshot = window.snapshot()
    let kept = starts(snapshot)
    #expect(kept.last == 199_999 && kept.count > 1000)
    #expect(snapshot.cutNanoseconds == kept[0] - 1)
  }

  @Test func conditionsAreReadAndMatched() throws {
    var slow = event(5)
    slow.latencyNanoseconds = 200_000_000
    var failed = event(6)
    (failed.result, failed.operation) = (-28, .write)
    #expect(try #require(TriggerCondition("latency > 100ms")).reason(slow) != nil)
    #expect(try #require(TriggerCondition("latency>0.1s")).reason(event(5)) == nil)
    #expect(try #require(TriggerCondition("write latency > 100ms")).reason(slow) == nil)
    #expect(try #require(TriggerCondition("errors")).reason(failed) == "errors: write failed: No space left on device")
    #expect(try #require(TriggerCondition("error ENOSPC")).reason(failed) != nil)
    #expect(try #require(TriggerCondition("error EIO")).reason(failed) == nil)
    #expect(try #require(TriggerCondition("read errors")).reason(failed) == nil)
    // A latency or result that is not known meets nothing.
    slow.latencyNanoseconds = TraceEvent.unknownLatency
    failed.result = TraceEvent.unknownResult
    #expect(try #require(TriggerCondition("latency > 0s")).reason(slow) == nil)
    #expect(try #require(TriggerCondition("errors")).reason(failed) == nil)
    for wrong in [
      "", "latency", "latency > ", "latency < 5ms", "errors EIO", "error", "gap errors", "end end", "read failure", "error EIO,",
    ] {
      #expect(TriggerCondition(wrong) == nil, "\(wrong)")
    }
  }
}
