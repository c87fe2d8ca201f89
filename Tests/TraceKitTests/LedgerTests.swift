import Foundation
import Testing

@testable import TraceKit

@Suite struct LedgerTests {
  private func gap(_ cause: GapCause, start: Int64, lost: UInt64?) -> TraceEvent {
    TraceEvent(
      startNanoseconds: start, operation: .gap, sizeBytes: lost ?? TraceEvent.unknownSize, latencyNanoseconds: 10,
      result: cause.rawValue, processID: 7, threadID: 8)
  }

  @Test func gapsAddUpByCauseAndOneOfUnknownCountMakesTheSumUnknown() {
    var ledger = RecordingLedger()
    ledger.note(gap: gap(.ringFull, start: 5, lost: 3))
    ledger.note(gap: gap(.ringFull, start: 9, lost: 4))
    ledger.note(gap: gap(.stopped, start: 20, lost: nil))
    #expect(ledger.losses.map(\.cause) == ["ring_full", "stopped"])
    #expect(ledger.lostEvents(.ringFull) == 7 && ledger.lostEvents(.stopped) == nil && ledger.lostEvents() == nil)
    #expect(ledger.gaps.map(\.startNanoseconds) == [5, 9, 20] && ledger.gaps[0].threadID == 8)
    #expect(ledger.lossLine == "dropped: 7 in 2 gaps (ring full), an unknown number in 1 gap (recording stopped)")
  }

  @Test func ofManyGapsTheFirstAreListedAndAllAreCounted() {
    var ledger = RecordingLedger()
    for start in 0..<2500 { ledger.note(gap: gap(.ringFull, start: Int64(start), lost: 2)) }
    #expect(ledger.gaps.count == RecordingLedger.listedGaps)
    #expect(ledger.losses[0].gaps == 2500 && ledger.lostEvents() == 5000)
  }

  @Test func aLedgerSurvivesItsJSONAndMissingKeysAreNotKnown() throws {
    var ledger = RecordingLedger()
    ledger.routes = [.init(name: "block", operations: [.init(operation: "read", events: 2, errors: 1, bytes: 4096)])]
    ledger.note(gap: gap(.noRing, start: -5, lost: 1))
    ledger.coverage = [.init(source: "/sys/block/loop0/stat", counter: "reads", unit: "requests", recorded: 2, kernel: 3)]
    ledger.note(blindSpot: "rings with SQPOLL", count: 2, remedy: "the block route")
    ledger.sampling = .init(unit: "files", oneIn: 8, recorded: 1, met: 9, eventsLeftOut: 100)
    (ledger.startNanoseconds, ledger.endNanoseconds, ledger.recorderCPUNanoseconds) = (100, 1100, 50)
    let decoded = try JSONDecoder().decode(RecordingLedger.self, from: JSONEncoder().encode(ledger))
    #expect(decoded == ledger)
    #expect(decoded.shareOfOneCPU == 0.05)
    let empty = try JSONDecoder().decode(RecordingLedger.self, from: Data("{\"unknown\": 1}".utf8))
    #expect(empty == RecordingLedger() && empty.shareOfOneCPU == nil)
    let newer = Data("{\"source\": \"block\", \"sample\": {\"unit\": \"queues\", \"one_in\": 3}, \"ledger\": {\"routes\": []}}".utf8)
    let metadata = try JSONDecoder().decode(TraceMetadata.self, from: newer)
    #expect(metadata.source == "block" && metadata.sample?.unit == .other && metadata.ledger == RecordingLedger())
    #expect(ledger.json.formatted.contains("\"share_of_one_cpu\": 0.05"))
  }

  @Test func coverageIsRoundedDownAndNamesTheDifference() {
    var ledger = RecordingLedger()
    ledger.coverage = [
      .init(source: "stat", counter: "reads", unit: "requests", recorded: 99_999, kernel: 100_000, explanation: "merges"),
      .init(source: "stat", counter: "writes", unit: "requests", recorded: 12, kernel: 10),
      .init(source: "other", counter: "read", unit: "bytes", recorded: 1, kernel: nil),
    ]
    #expect(
      ledger.coverageLines == [
        "coverage by stat: 99.9 % of 100000 reads, 100.0 % of 10 writes; not seen: 1 reads, not counted by the kernel: 2 writes (merges)"
      ])
  }

  @Test func textFromATraceIsEscaped() {
    var ledger = RecordingLedger()
    ledger.routes = [.init(name: "a\u{1b}[2J", operations: [.init(operation: "b\n", events: 1, errors: 0, bytes: 0)])]
    ledger.losses = [.init(cause: "c\u{7}", gaps: 1, events: 1)]
    ledger.blindSpots = [.init(name: "d\r", count: 1, remedy: "e\u{202e}")]
    ledger.sampling = .init(unit: "f\u{0}", oneIn: 2)
    #expect(ledger.lines.joined().unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F && $0.value != 0x202E })
  }
}
