import Foundation
import Testing

@testable import TraceKit

/// Comparison of request with request, on logs written for the purpose.
@Suite struct PairedTests {
  let folder = Folder()

  /// One event of a log or of a recording.
  private func event(
    _ number: UInt64, _ operation: TraceOperation = .read, file: UInt32 = 0, latency: Int64, size: UInt64 = 4096, result: Int64 = 4096,
    at: Int64? = nil, isLog: Bool = true
  ) -> TraceEvent {
    TraceEvent(
      startNanoseconds: at ?? Int64(clamping: number) &* 1000, operation: operation, file: file, offsetBytes: (number % 1000) * 4096,
      sizeBytes: size, latencyNanoseconds: latency, result: result, processID: 1, threadID: 1,
      request: isLog ? number : TraceEvent.unknownRequest)
  }

  @discardableResult
  private func write(_ name: String, _ events: [TraceEvent], digest: String? = "d", files: [String] = ["/data/a", "/data/b"]) throws
    -> String
  {
    var metadata = TraceMetadata(source: digest == nil ? "generated" : "replay")
    metadata.replayedDigest = digest
    let writer = try TraceWriter(path: folder(name), metadata: metadata)
    for file in files { _ = writer.addFile(TraceFile(path: Array(file.utf8), kind: .regular)) }
    for event in events { try writer.append(event) }
    try writer.finish()
    return folder(name)
  }

  private func compare(_ a: [String], _ b: [String], _ change: (inout DiffOptions) -> Void = { _ in }) throws -> ReportDiff {
    var options = DiffOptions()
    change(&options)
    return try DiffOperands(a, b).compare(options)
  }

  @Test func theSlowedRequestsAreFoundAndNamed() throws {
    let a = try write("a", (0..<6000).map { event($0, $0 % 3 == 0 ? .write : .read, file: $0 % 2 == 0 ? 0 : 1, latency: 10_000) })
    // Reads take 10 % longer, writes 5 % less; five writes 3 ms longer. The order of completion is another one.
    let slowed: Set<UInt64> = [600, 1500, 2100, 3000, 5400]
    let b = try write(
      "b",
      (UInt64(0)..<6000).map { number -> TraceEvent in
        let latency: Int64 = slowed.contains(number) ? 3_010_000 + Int64(number) : number % 3 == 0 ? 9500 : 11_000
        return event(
          number, number % 3 == 0 ? .write : .read, file: number % 2 == 0 ? 0 : 1, latency: latency, at: Int64((number ^ 7) * 1000))
      })
    let diff = try compare([a], [b])
    let paired = try #require(diff.paired)
    #expect(paired.all.requests == 6000 && paired.onlyA == 0 && paired.onlyB == 0)
    #expect(abs(paired.all.medianChange - 0.1) < 0.001)
    let byOperation = Dictionary(uniqueKeysWithValues: paired.byOperation.map { ($0.name, $0) })
    #expect(abs(try #require(byOperation["read"]).medianChange - 0.1) < 0.001)
    #expect(try #require(byOperation["read"]).shareSlower == 1)
    #expect(abs(try #require(byOperation["write"]).medianChange + 0.05) < 0.001)
    #expect(abs(try #require(byOperation["write"]).shareSlower - 5.0 / 2000) < 1e-9)
    #expect(Set(paired.worst.prefix(5).map(\.request)) == slowed)
    #expect(paired.worst[0].request == 5400 && paired.worst[0].bNanoseconds == 3_015_400 && paired.worst[0].aNanoseconds == 10_000)
    #expect(paired.worst[0].file == "/data/a" && paired.worst[0].offsetBytes == 400 * 4096 && paired.worst[0].sizeBytes == 4096)
    #expect(paired.worst.count == PairedComparison.worstRequests)
    #expect(paired.byFile.map(\.requests) == [3000, 3000] && paired.bySize.map(\.name) == ["up to 4.00 KiB"])
    #expect(paired.byPhase.count == 10 && paired.byPhase.allSatisfy { $0.requests == 600 })
    // Windows of the same requests, although each log is in the order of its own times.
    #expect(diff.primaryLatency?.quantiles[0].interval?.count ?? 0 >= 10)
    #expect(abs((diff.primaryLatency?.quantiles[0].ratio ?? 0) - 1.1) < 0.01)
    #expect(diff.text.contains("request 5400"))
  }

  @Test func whatOnlyOneSideHasIsCountedAndLeftOut() throws {
    let a = try write("a", (0..<100).map { event($0, latency: 1000) } + [event(100, latency: 1000, result: -5)])
    let b = try write("b", (50..<120).map { event($0, latency: 2000) } + [event(130, latency: -1)])
    let paired = try #require(try compare([a], [b]).paired)
    #expect(paired.all.requests == 50 && paired.onlyA == 50 && paired.onlyB == 20)
  }

  @Test func numbersFarApartTakeNoMoreMemoryThanThereAreRequests() throws {
    let numbers = (0..<500).map { UInt64($0) * 1_000_000_007_000 + 17 } + [UInt64.max - 1]
    let a = try write("a", numbers.map { event($0, latency: 1000, at: 0) })
    let b = try write("b", numbers.reversed().map { event($0, latency: 3000, at: 0) })
    let paired = try #require(try compare([a], [b]).paired)
    #expect(paired.all.requests == 501 && abs(paired.all.medianChange - 2) < 0.01)
    #expect(paired.byPhase.count == 10)
  }

  @Test func severalLogsOfASideCountByTheirGeometricMean() throws {
    let a = try write("a", (0..<40).map { event($0, latency: 1000) })
    let a2 = try write("a2", (0..<40).map { event($0, latency: 4000) })
    let b = try write("b", (0..<40).map { event($0, latency: 2000) })
    let b2 = try write("b2", (0..<40).map { event($0, latency: 8000) })
    let diff = try compare([a, a2], [b, b2])
    #expect(diff.pairs == 2 && diff.method == .pairsOfRuns)
    let paired = try #require(diff.paired)
    #expect(paired.all.requests == 40 && abs(paired.all.medianChange - 1) < 0.001)
    #expect(paired.worst[0].aNanoseconds == 2000 && paired.worst[0].bNanoseconds == 4000)
  }

  @Test func aRecordingIsComparedWithTheReplayOfIt() throws {
    let recording = try write("recording", (0..<4000).map { event($0, latency: 5000, isLog: false) }, digest: nil)
    let digest = try #require(try TraceReader(path: recording).totals?.digest.hexadecimal)
    var options = ReplayOptions()
    options.engine = "null"
    options.speed = .factor(1)
    options.logPath = folder("log")
    let report = try Replayer(tracePath: recording, options: options).run()
    try ReportFile.write(ReportFile.json(report), to: folder("report"), overwrite: false)
    let diff = try compare([recording], [folder("report")]) { $0.allow = ["fidelity"] }
    #expect(diff.a.source == .recording && diff.b.source == .report && diff.digest == digest)
    #expect(diff.primary == .service && diff.latencies.map(\.kind) == [.service])
    #expect(diff.primaryLatency?.requestsA == 4000 && diff.primaryLatency?.quantiles[0].aNanoseconds == 5000)
    // The windows of the recording are those of the report: an interval exists.
    #expect(diff.primaryLatency?.quantiles[0].interval != nil || diff.primaryLatency?.quantiles[0].bNanoseconds == 0)
    let paired = try #require(try compare([recording], [folder("log")]).paired)
    #expect(paired.all.requests == 4000)
    let other = try write("other", (0..<10).map { event($0, latency: 1, isLog: false) }, digest: nil)
    #expect { try compare([other], [folder("report")]) } throws: { "\($0)".contains("differ in trace") }
    #expect { try compare([recording], [other]) } throws: { "\($0)".contains("both recordings") }
    #expect { try compare([recording, other], [folder("report"), folder("report")]) } throws: { "\($0)".contains("stands alone") }
    let foreign = try write("foreign", [event(0, latency: 1)], digest: "another")
    #expect { try compare([folder("report"), foreign], [folder("report")]) } throws: { "\($0)".contains("no log of the trace") }
  }

  @Test func namesFromATraceAreSafeToPrint() throws {
    let evil = "/x\u{1b}[31m\n<script>\"'"
    let a = try write("a", (0..<10).map { event($0, latency: 1000) }, files: [evil])
    let b = try write("b", (0..<10).map { event($0, latency: 2000) }, files: [evil])
    let diff = try compare([a], [b])
    #expect(diff.paired?.worst[0].file == "/x\\x1b[31m\\x0a<script>\"'")
    #expect(!diff.text.contains("\u{1b}"))
  }

  @Test func latenciesAtTheEndOfTheRangeAreCompared() throws {
    let a = try write("a", (0..<10).map { event($0, latency: 0) })
    let b = try write("b", (0..<10).map { event($0, latency: Int64.max) })
    #expect(try compare([a], [b]).paired?.worst[0].aNanoseconds == 1)
  }
}
