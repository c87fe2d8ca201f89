import CTrace
import Foundation
import Testing
import TraceKit

/// Recordings that stay in memory until a trigger comes.
@Suite(.serialized, .enabled(if: installed("cc") != nil, "no C compiler"))
struct LastSecondsTests {
  let folder: TemporaryFolder
  var output: String { folder / "last.iotrace" }

  init() throws { folder = try TemporaryFolder() }

  private func traces() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".iotrace") }.sorted()
  }

  /// Writes to `before` all the time, then, when the file `go` is there, once to `after`, and ends when `stop` is there.
  private func started(_ options: [String]) throws -> StartedCommand {
    let program = try compileC(
      """
      #include <fcntl.h>
      #include <unistd.h>
      int main() {
        int before = open("before", O_RDWR | O_CREAT, 0600), after = -1;
        while (access("stop", F_OK)) {
          if (pwrite(before, "x", 1, 7) != 1) return 1;
          if (after < 0 && !access("go", F_OK)) { after = open("after", O_RDWR | O_CREAT, 0600); pwrite(after, "y", 1, 8); close(creat("gone", 0600)); }
          usleep(500);
        }
        return 0;
      }
      """, in: folder)
    return try StartedCommand(
      traceRecord, ["run", "--no-calibration", "-o", output] + options + ["--", program], in: folder.path)
  }

  private func wait(for name: String) {
    let deadline = Date().addingTimeInterval(60)
    while !FileManager.default.fileExists(atPath: folder / name), Date() < deadline { usleep(2000) }
  }

  @Test func triggersWriteTheLastSecondsAndOnlyThose() throws {
    let recorder = try started(["--last", "700ms"])
    wait(for: "before")
    usleep(1_500_000)
    close(creat(folder / "go", 0o600))
    wait(for: "gone")
    let triggered = try run(traceRecord, ["trigger", "\(recorder.processID)"])
    #expect(triggered.status == 0 && triggered.stdout.contains("last.0001.iotrace"), "\(triggered.stderr)")
    let first = try RecordedTrace(folder / "last.0001.iotrace")
    #expect(first.events(.write, "/after").count == 1)
    #expect(first.events(.write, "/before").count > 50)
    // The names of files that were opened long before are there; their opening is not.
    #expect(first.events(.open, "/before").isEmpty)
    let starts = first.events.map(\.startNanoseconds)
    #expect((starts.max() ?? 0) - (starts.min() ?? 0) <= 700_000_000)
    #expect(first.metadata.trigger == "trace-record trigger" && first.totals?.lossless == true)
    #expect(first.metadata.ledger?.routes[0].events == UInt64(first.events.count))
    // By its output's name, and by the signal.
    #expect(try run(traceRecord, ["trigger", output]).status == 0)
    kill(recorder.processID, SIGUSR1)
    wait(for: "last.0003.iotrace")
    close(creat(folder / "stop", 0o600))
    let result = recorder.wait()
    #expect(result.status == 0 && result.stderr.contains("3 traces of the last 700 ms"), "\(result.stderr)")
    #expect(try RecordedTrace(folder / "last.0003.iotrace").metadata.trigger == "SIGUSR1")
    #expect(try traces() == ["last.0001.iotrace", "last.0002.iotrace", "last.0003.iotrace"])
    let gone = try run(traceRecord, ["trigger", "\(recorder.processID)"])
    #expect(gone.status == 1 && gone.stderr.contains("no recorder with --last"))
  }

  /// Records a program with a read that takes 150 ms, one that fails, and a status.
  private func recorded(_ options: [String]) throws -> CommandResult {
    let program = try compileC(
      """
      #include <fcntl.h>
      #include <unistd.h>
      int main() {
        int ends[2];
        char p;
        pipe(ends);
        if (fork() == 0) { usleep(150000); write(ends[1], "x", 1); _exit(0); }
        read(ends[0], &p, 1);
        read(1000, &p, 1);
        usleep(150000);
        return 3;
      }
      """, in: folder)
    return try record([program], to: output, options: ["--last", "10s"] + options, in: folder.path)
  }

  @Test func conditionsTriggerOnce() throws {
    for (condition, reason) in [
      ("latency > 100ms", "latency > 100ms: read took "), ("read latency>100ms", "read latency > 100ms: read took "),
      ("errors", "errors: read failed: Bad file descriptor"), ("read error EIO,EBADF", "read error EIO,EBADF: read failed"),
      ("failure", "failure: the program ended with status 3"), ("end", "end: the recording ended"),
    ] {
      let result = try recorded(["--when", condition, "--force"])
      #expect(result.status == 3 && result.stderr.contains("one trace of the last"), "\(condition): \(result.stderr)")
      #expect(try traces() == ["last.0001.iotrace"])
      let trace = try RecordedTrace(folder / "last.0001.iotrace")
      #expect(trace.metadata.trigger?.hasPrefix(reason) == true, "\(trace.metadata.trigger ?? "")")
      #expect(trace.events.contains { $0.operation == .read && $0.latencyNanoseconds > 100_000_000 })
    }
  }

  @Test func withoutATriggerNothingIsWritten() throws {
    let result = try recorded(["--when", "fsync latency > 1ms", "--when", "error EIO"])
    #expect(result.status == 3 && result.stderr.contains("no trigger came, so no trace was written"))
    #expect(try traces().isEmpty)
  }

  @Test func memoryBoundsTheWindowAndTheTraceSaysSo() throws {
    let program = try compileC(
      """
      #include <fcntl.h>
      #include <unistd.h>
      int main() {
        int fd = open("data", O_RDWR | O_CREAT, 0600);
        unsigned random = 1;
        for (int i = 0; i < 600000; i++) { random = random * 1103515245 + 12345; pwrite(fd, "x", 1, random % 1000003); }
        return 0;
      }
      """, in: folder)
    let result = try record(
      [program], to: output, options: ["--last", "60s", "--last-memory", "1M", "--when", "end", "--on-full", "block"], in: folder.path)
    #expect(result.stderr.contains("--last-memory"), "\(result.stderr)")
    let trace = try RecordedTrace(folder / "last.0001.iotrace")
    let gap = try #require(trace.events.first)
    #expect(gap.operation == .gap && gap.result == GapCause.collectorFull.rawValue && gap.sizeIfKnown == nil)
    #expect(trace.totals?.lossless == false && trace.events.count > 65_536 && trace.events.count < 500_000)
    // The newest are those that are kept.
    #expect(trace.events.last?.operation == .write)
    #expect(trace.events[1].startNanoseconds >= gap.startNanoseconds + gap.latencyNanoseconds)
  }

  @Test func oldTracesAreRemovedOnRequest() throws {
    let recorder = try started(["--last", "200ms", "--keep", "2"])
    wait(for: "before")
    for _ in 0..<4 { #expect(try run(traceRecord, ["trigger", "\(recorder.processID)"]).status == 0) }
    close(creat(folder / "stop", 0o600))
    #expect(recorder.wait().stderr.contains("removed by --keep 2: 2 older traces"))
    #expect(try traces() == ["last.0003.iotrace", "last.0004.iotrace"])
  }

  @Test func whatCannotBeIsRefusedBeforeTheProgramStarts() throws {
    for (options, word) in [
      (["--last", "30s", "--rotate", "1m"], "--rotate"), (["--when", "errors"], "--last"), (["--last", "0s"], "1ms to 168h"),
      (["--last", "30s", "--when", "latency > soon"], "--when 'latency > soon'"),
      (["--last", "30s", "--when", "error ENOSUCH"], "ENOSUCH"),
      (["--last", "30s", "--when", "read end"], "read end"), (["--last", "30s", "--last-memory", "1"], "--last-memory 1"),
    ] {
      let result = try record(["sh", "-c", "echo started"], to: output, options: options)
      #expect(result.status == 125 && result.stderr.contains(word) && result.stdout.isEmpty, "\(options): \(result.stderr)")
    }
    try folder.write("last.0001.iotrace", "")
    #expect(try record(["echo", "started"], to: output, options: ["--last", "30s"]).stdout.isEmpty)
  }
}
