import Foundation
import Testing
import TraceKit

/// Storage that is slowed on purpose: a file that nbdkit serves from memory, some of whose requests it delays.
private final class NBDFile {
  let path: String
  private let server: StartedCommand

  /// - Parameter delays: parameters of nbdkit's delay filter.
  init(_ path: String, _ delays: [String]) throws {
    self.path = path
    _ = FileManager.default.createFile(atPath: path, contents: Data())
    server = try StartedCommand("nbdfuse", [path, "--command", "nbdkit", "-s", "--filter=delay", "memory", "16M"] + delays)
    for _ in 0..<200 where size < 16 << 20 { usleep(50_000) }
    try #require(size == 16 << 20, "nbdfuse serves no file: \(server.stderrSoFar)")
  }

  private var size: Int { (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0 }

  func close() {
    _ = try? run("umount", [path])
    _ = server.wait(timeoutSeconds: 10)
  }
}

@Suite(
  .enabled(
    if: geteuid() == 0 && installed("nbdkit") != nil && installed("nbdfuse") != nil && FileManager.default.fileExists(atPath: "/dev/fuse"),
    "needs root, nbdkit, nbdfuse (libnbd-bin) and /dev/fuse"))
struct SlowedStorageTests {
  @Test(
    .enabled(
      if: ProcessInfo.processInfo.environment["IOTRACE_QUIET"] != nil,
      "its verdicts need a machine without other work: IOTRACE_QUIET=1"))
  func theVerdictAndTheNamedRequestsAreThoseOfTheDelay() throws {
    let folder = try TemporaryFolder()
    try write(folder / "t", count: 800)
    let plain = try NBDFile(folder / "plain", [])
    defer { plain.close() }
    let slow = try NBDFile(folder / "slow", ["rdelay=50ms"])
    defer { slow.close() }
    func compare(_ targets: [String], _ more: [String]) throws -> (CommandResult, Comparison?) {
      let output = folder / "out-\(targets.count)-\(more.count)"
      let result = try run(
        traceReplay,
        [
          "compare", folder / "t", "--speed", "max", "--runs", "3", "--allow-writes", "--logs", "-q", "-o", output, "--json",
          output + ".json",
        ]
          + targets.flatMap { ["--target", $0] } + more, environment: ["TMPDIR": folder.path], timeoutSeconds: 300)
      let data = FileManager.default.contents(atPath: output + ".json")
      return (result, try data.map { try JSONDecoder().decode(Comparison.self, from: $0) })
    }
    let (result, comparison) = try compare([plain.path, slow.path], ["--fail-on", "p50>20%"])
    // One request in twenty is a read: the median is a write's, and only the tail is slower.
    #expect(result.status == 0 || result.status == 3, "\(result.stderr)")
    let diff = try #require(comparison?.diffs.first, "\(result.stderr)")
    #expect(diff.verdict == .regression)
    let quantiles = Dictionary(uniqueKeysWithValues: try #require(diff.primaryLatency?.quantiles).map { ($0.quantile, $0) })
    #expect(quantiles["p99"]?.verdict == .regression)
    #expect(quantiles["p50"]?.verdict != .regression || (quantiles["p50"]?.ratio ?? 0) < (quantiles["p99"]?.ratio ?? 0))
    let paired = try #require(diff.paired)
    #expect(paired.all.requests == 800)
    let reads = try #require(paired.byOperation.first { $0.name == "read" })
    #expect(reads.shareSlower > 0.95 && reads.lostNanoseconds > 0.8 * 40 * 50e6)
    #expect(paired.worst.count == 20)
    #expect(paired.worst.allSatisfy { $0.operation == "read" && $0.request % 20 == 0 })
    let gated = try run(
      traceReplay,
      ["diff", "--fail-on", "p99>50%"] + (1...3).map { folder / "out-2-2/A-\($0).json" } + ["--"]
        + (1...3).map { folder / "out-2-2/B-\($0).json" })
    #expect(gated.status == 3, "\(gated.stderr)")
  }

  @Test(arguments: [
    ("sync", "streams"), ("sync", "dependencies"), ("io_uring", "streams"), ("io_uring", "dependencies"), ("sync", "schedule"),
  ])
  func latenessBehindSlowStorageIsNotTheReplayersOwn(engine: String, order: String) throws {
    let folder = try TemporaryFolder()
    // One thread that read every millisecond and waited 100 µs each time; here a read takes 5 ms.
    let writer = try TraceWriter(path: folder / "t", metadata: TraceMetadata(source: "generated"))
    let file = writer.addFile(TraceFile(path: Array("/data/file".utf8), kind: .regular))
    for i in 0..<200 {
      try writer.append(
        TraceEvent(
          startNanoseconds: Int64(i) * 1_000_000, operation: .read, file: file, offsetBytes: UInt64(i) * 8192, sizeBytes: 4096,
          latencyNanoseconds: 100_000, result: 4096, processID: 1, threadID: 1, flags: [.direct]))
    }
    try writer.finish()
    let slow = try NBDFile(folder / "slow", ["rdelay=5ms"])
    defer { slow.close() }
    let result = try run(
      traceReplay,
      [
        "run", folder / "t", "--engine", engine, "--order", order, "--target", slow.path, "--direct", "-q", "--json", folder / "r",
        // What a busy machine takes from the replayer once, it has lost for the rest of the chain: less than this.
        "--lag-budget", "200ms",
      ],
      environment: ["TMPDIR": folder.path], timeoutSeconds: 120)
    #expect(result.status == 0, "\(result.stderr)")
    let report = try JSONDecoder().decode(ReplayReport.self, from: try #require(FileManager.default.contents(atPath: folder / "r")))
    let fidelity = report.fidelity
    let (late, byDependency) = (try #require(fidelity.lateShare), try #require(fidelity.lateByDependencyShare))
    #expect(late > 0.6)
    if order == "schedule" {
      // Whoever asks for an open loop gets one, or is told that it was none.
      #expect(byDependency == 0 && fidelity.verdict == .degraded)
    } else {
      // A busy machine may add lateness of the replayer's own.
      #expect(byDependency > 0.5 * late)
      #expect((late - byDependency > 0.01) == (fidelity.verdict == .degraded), "\(fidelity.reasons)")
      #expect(result.stdout.contains("because requests that they follow took longer than recorded"))
    }
  }

  /// Every twentieth request reads, the others write, past the page cache.
  private func write(_ path: String, count: Int) throws {
    let writer = try TraceWriter(path: path, metadata: TraceMetadata(source: "generated"))
    let file = writer.addFile(TraceFile(path: Array("/data/file".utf8), kind: .regular))
    for i in 0..<count {
      try writer.append(
        TraceEvent(
          startNanoseconds: Int64(i) * 1000, operation: i % 20 == 0 ? .read : .write, file: file, offsetBytes: UInt64(i * 7 % 4000) * 4096,
          sizeBytes: 4096, latencyNanoseconds: 20_000, result: 4096, processID: 1, threadID: 1, flags: [.direct]))
    }
    try writer.finish()
  }
}
