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

  @Test func aSampleHasAllRequestsOfSomeFilesAndNoneOfTheOthers() throws {
    let program = try compileC(
      """
      #include <fcntl.h>
      #include <stdio.h>
      #include <unistd.h>
      int main() {
        for (int round = 0; round < 3; round++)
          for (int i = 0; i < 200; i++) {
            char name[20];
            sprintf(name, "file-%d", i);
            int fd = open(name, O_RDWR | O_CREAT, 0600);
            pwrite(fd, "x", 1, round);
            close(fd);
          }
        return 0;
      }
      """, in: folder)
    let result = try record([program], to: output, options: ["--sample", "1/4"], in: folder.path)
    let trace = try RecordedTrace(output)
    var perFile: [UInt32: Int] = [:]
    for event in trace.events { perFile[event.file, default: 0] += 1 }
    #expect(perFile.count > 25 && perFile.count < 80 && Set(perFile.values) == [9])
    #expect(trace.metadata.sample == SampleRule(unit: .files, oneIn: 4) && trace.totals?.lossless == true)
    let sampling = try #require(trace.metadata.ledger?.sampling)
    #expect(sampling.met == 200 && sampling.recorded == UInt64(perFile.count))
    #expect(sampling.eventsLeftOut == UInt64(9 * (200 - perFile.count)))
    #expect(result.stderr.contains("sample: 1 of 4 files"))
    #expect(try run(traceRecord, ["info", output]).stdout.contains("1 of 4 files"))
    #expect(
      try run(traceReplay, ["run", "--engine", "null", "--speed", "max", output]).stderr.contains("a sample, recorded of 1 of 4 files"))
    // The same files again.
    let names = Set(trace.files.map(\.displayPath))
    try record([program], to: output, options: ["--sample", "1/4", "--force"], in: folder.path)
    #expect(Set(try RecordedTrace(output).files.map(\.displayPath)) == names)
  }

  @Test func aSampleOfThreadsHasAllRequestsOfSomeThreads() throws {
    let program = try compileC(
      """
      #include <fcntl.h>
      #include <pthread.h>
      #include <unistd.h>
      static void *work(void *argument) {
        int fd = open("data", O_RDWR | O_CREAT, 0600);
        for (int i = 0; i < 10; i++) pwrite(fd, "x", 1, i);
        close(fd);
        return 0;
      }
      int main() {
        for (int round = 0; round < 25; round++) {
          pthread_t ids[4];
          for (int i = 0; i < 4; i++) pthread_create(&ids[i], 0, work, 0);
          for (int i = 0; i < 4; i++) pthread_join(ids[i], 0);
        }
        return 0;
      }
      """, in: folder)
    try record([program], to: output, options: ["--sample", "1/3,threads"], in: folder.path)
    let trace = try RecordedTrace(output)
    var perThread: [Int32: Int] = [:]
    for event in trace.events { perThread[event.threadID, default: 0] += 1 }
    #expect(perThread.count > 10 && perThread.count < 70 && Set(perThread.values) == [12])
    let sampling = try #require(trace.metadata.ledger?.sampling)
    #expect(sampling.met == 100 && sampling.recorded == UInt64(perThread.count))
  }

  @Test func theLiveViewIsALineASecond() throws {
    let result = try record([try writer(), "4000", "300"], to: output, options: ["--live", "--quiet"], in: folder.path)
    let lines = result.stderr.split(separator: "\n")
    #expect(!lines.isEmpty && lines.allSatisfy { $0.contains(" events/s | ") && $0.contains("p99") && $0.contains("dropped 0") })
    #expect(result.stdout == "finished")
  }

  @Test(.enabled(if: installed("script") != nil, "no script(1)")) func onATerminalTheLiveViewTakesOneLine() throws {
    let command = "stty cols 60; \(traceRecord) run --no-calibration --live --quiet -o \(output) -- \(try writer()) 4000 300"
    let result = try run("script", ["-qec", command, "/dev/null"], in: folder.path)
    let shown = result.stdout.components(separatedBy: "\u{1b}[K").filter { $0.contains("events/s") }
    // Back to the start of the line each time, and never longer than it is.
    let fits = shown.allSatisfy { text in text.unicodeScalars.firstIndex(of: "\r").map { text[..<$0].count < 60 } == true }
    #expect(!shown.isEmpty && fits, "\(result.stdout.debugDescription)")
    #expect(result.stdout.hasSuffix("\u{1b}[K"))
  }

  @Test func replayRefusesLossesOnRequest() throws {
    try record([try writer(), "20000", "0"], to: output, options: ["--max-size", "64K"], in: folder.path)
    let replay = ["run", "--engine", "null", "--speed", "max", output]
    let warned = try run(traceReplay, replay)
    #expect(warned.status == 0 && warned.stderr.contains("requests are missing"))
    let refused = try run(traceReplay, replay + ["--require-lossless"])
    #expect(refused.status != 0 && refused.stderr.contains("not lossless, 1 gaps with an unknown number of requests"))
    try record([try writer(), "100", "0"], to: output, options: ["--force"], in: folder.path)
    #expect(try run(traceReplay, replay + ["--require-lossless"]).status == 0)
  }

  @Test func optionsThatContradictEachOtherAreRefused() throws {
    for (options, word) in [
      (["--keep", "3"], "--rotate"), (["--rotate", "5"], "--rotate 5"), (["--rotate", "1M", "--rotate", "2M"], "--rotate 2M"),
      (["--rotate", "1M", "--max-size", "1G"], "--keep"), (["--max-size", "1"], "64.0 KiB"), (["--nice", "20"], "-20 to 19"),
      (["--queue-size", "1K"], "1.00 MiB"), (["--rotate", "1M", "--keep", "0"], "1 or more"),
      (["--sample", "2/3"], "1/N"), (["--sample", "1/1"], "1/N"), (["--sample", "1/4,bytes"], "1/N"),
    ] {
      let result = try record(["true"], to: output, options: options)
      #expect(result.status == 125 && result.stderr.contains(word), "\(options): \(result.stderr)")
    }
    #expect(try pieces().isEmpty)
  }
}
