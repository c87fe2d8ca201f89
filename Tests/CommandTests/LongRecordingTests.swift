import CTrace
import Foundation
import Testing
import TraceKit

/// Recordings in pieces, with limits, and of samples.
@Suite(.serialized, .enabled(if: installed("cc") != nil, "no C compiler"))
struct LongRecordingTests {
  let folder: TemporaryFolder
  var output: String { folder / "trace.iotrace" }

  init() throws { folder = try TemporaryFolder() }

  /// Writes one byte at pseudo-random offsets of `data`: COUNT times, MICROSECONDS apart.
  private func writer() throws -> String {
    try compileC(
      """
      #include <fcntl.h>
      #include <stdlib.h>
      #include <unistd.h>
      int main(int argc, char **argv) {
        int count = atoi(argv[1]), pause = atoi(argv[2]);
        int fd = open("data", O_RDWR | O_CREAT, 0600);
        unsigned random = 1;
        for (int i = 0; i < count; i++) {
          random = random * 1103515245 + 12345;
          if (pwrite(fd, "x", 1, random % 1000003) != 1) return 1;
          if (pause) usleep(pause);
        }
        return write(1, "finished", 8) != 8;
      }
      """, in: folder)
  }

  private func pieces() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".iotrace") }.sorted()
  }

  @Test func piecesAreWholeTracesThatFollowEachOther() throws {
    let result = try record([try writer(), "100000", "0"], to: output, options: ["--rotate", "128K"], in: folder.path)
    #expect(result.status == 0 && result.stdout == "finished")
    let names = try pieces()
    #expect(names.count > 3 && names.first == "trace.0001.iotrace" && !names.contains("trace.iotrace"))
    var writes: UInt64 = 0
    var last = Int64.min
    for (position, name) in names.enumerated() {
      let piece = try RecordedTrace(folder / name)
      writes += piece.totals?.writes ?? 0
      #expect(piece.metadata.piece == position + 1 && piece.totals?.lossless == true && piece.totals?.sorted == true)
      let size = try FileManager.default.attributesOfItem(atPath: folder / name)[.size] as? Int
      #expect((size ?? .max) <= 128 << 10, "\(name)")
      let named = piece.events.allSatisfy { piece.path($0).hasSuffix("/data") || piece.path($0).hasSuffix("/stdout") }
      #expect(named)
      let first = try #require(piece.events.first)
      #expect(first.startNanoseconds >= last)
      last = piece.events.last?.startNanoseconds ?? last
      let ledger = try #require(piece.metadata.ledger)
      #expect(ledger.routes[0].events == piece.totals?.events)
      #expect(ledger.coverage.isEmpty == (position + 1 < names.count))
    }
    #expect(writes == 100_001)
    #expect(result.stderr.contains("\(names.count) pieces") && result.stderr.contains("100001 writes"))
  }

  @Test func olderPiecesAreRemovedAndNamed() throws {
    let result = try record([try writer(), "100000", "0"], to: output, options: ["--rotate", "128K", "--keep", "2"], in: folder.path)
    let names = try pieces()
    #expect(names.count == 2 && names[0] > "trace.0002")
    let kept = try names.reduce(0) { $0 + (try RecordedTrace(folder / $1).totals?.events ?? 0) }
    #expect(result.stderr.contains("older pieces with \(100_002 - kept) events"), "\(result.stderr)")
  }

  @Test func piecesEndWithTheirTime() throws {
    try record([try writer(), "220", "10000"], to: output, options: ["--rotate", "1s"], in: folder.path)
    let names = try pieces()
    #expect(names.count >= 2)
    for name in names {
      let starts = try RecordedTrace(folder / name).events.map { $0.startNanoseconds / 1_000_000_000 }
      #expect(Set(starts).count == 1, "\(name)")
    }
  }

  @Test func piecesOfAnEarlierRecordingAreReplacedOnlyByForce() throws {
    let program = try writer()
    try record([program, "100000", "0"], to: output, options: ["--rotate", "128K"], in: folder.path)
    let before = try pieces()
    let refused = try record([program, "10", "0"], to: output, options: ["--rotate", "1s"], in: folder.path)
    #expect(refused.status == 125 && refused.stderr.contains("--force") && refused.stdout.isEmpty)
    #expect(try pieces() == before)
    #expect(try record([program, "10", "0"], to: output, options: ["--rotate", "1s", "--force"], in: folder.path).status == 0)
    #expect(try pieces() == ["trace.0001.iotrace"])
    // What only has such a name is left alone.
    try folder.write("trace.0007.iotrace", "a letter")
    let kept = try record([program, "10", "0"], to: output, options: ["--rotate", "1s", "--force"], in: folder.path)
    #expect(kept.status == 125 && kept.stderr.contains("not a trace"))
    #expect(try String(contentsOfFile: folder / "trace.0007.iotrace", encoding: .utf8) == "a letter")
  }

  @Test func aSizeLimitStopsTheRecordingAndNotTheProgram() throws {
    let result = try record([try writer(), "200000", "0"], to: output, options: ["--max-size", "200K"], in: folder.path)
    #expect(result.status == 0 && result.stdout == "finished")
    #expect(result.stderr.contains("recording stops at --max-size 200.0 KiB"))
    let trace = try RecordedTrace(output)
    let size = try FileManager.default.attributesOfItem(atPath: output)[.size] as? Int
    #expect((size ?? .max) <= 200 << 10)
    #expect(trace.events.count > 10_000 && trace.totals?.lossless == false && trace.totals?.lostEvents == nil)
    let gap = try #require(trace.gaps.first)
    #expect(gap.result == GapCause.stopped.rawValue && trace.events.last == gap)
    let ledger = try #require(trace.metadata.ledger)
    #expect(ledger.routes[0].events == UInt64(trace.events.count - 1))
    #expect(ledger.losses.map(\.cause) == ["stopped"])
  }

  @Test func optionsThatContradictEachOtherAreRefused() throws {
    for (options, word) in [
      (["--keep", "3"], "--rotate"), (["--rotate", "5"], "--rotate 5"), (["--rotate", "1M", "--rotate", "2M"], "--rotate 2M"),
      (["--rotate", "1M", "--max-size", "1G"], "--keep"), (["--max-size", "1"], "64.0 KiB"), (["--nice", "20"], "-20 to 19"),
      (["--buffer-size", "1K"], "1.00 MiB"), (["--rotate", "1M", "--keep", "0"], "1 or more"),
    ] {
      let result = try record(["true"], to: output, options: options)
      #expect(result.status == 125 && result.stderr.contains(word), "\(options): \(result.stderr)")
    }
    #expect(try pieces().isEmpty)
  }
}
