import CTrace
import Foundation
import Testing
import TraceKit

/// Recorder, program, or both die at random moments; disks fill up.
@Suite(.serialized, .enabled(if: installed("cc") != nil, "no C compiler"))
struct KilledRecordingTests {
  let folder: TemporaryFolder
  var output: String { folder / "trace.iotrace" }

  init() throws { folder = try TemporaryFolder() }

  enum Victim: CaseIterable { case recorder, program, both }

  /// Rounds for each kind of victim; IOTRACE_KILL_ROUNDS sets another number.
  private static let rounds = ProcessInfo.processInfo.environment["IOTRACE_KILL_ROUNDS"].flatMap { Int($0) } ?? 3

  /// Writes one byte to offsets 0, 1, 2 … (or, with an argument, here and there), notes its process number and how far it is in `progress`, and `done` at the end.
  private func program() throws -> String {
    try compileC(
      """
      #include <fcntl.h>
      #include <sys/mman.h>
      #include <unistd.h>
      int main(int argc, char **argv) {
        unsigned random = 1;
        int note = open("progress", O_RDWR | O_CREAT | O_TRUNC, 0600);
        ftruncate(note, 4096);
        volatile long *progress = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, note, 0);
        progress[1] = getpid();
        int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
        for (long i = 0; i < 150000; i++) {
          random = random * 1103515245 + 12345;
          if (pwrite(fd, "x", 1, argc > 1 ? random % 1000003 : i) != 1) return 1;
          progress[0] = i + 1;
          if (i % 500 == 0) usleep(1000);
        }
        close(creat("done", 0600));
        return 0;
      }
      """, in: folder)
  }

  /// The numbers in `progress`: calls that returned, and the program's process number.
  private func progress() -> (calls: Int, process: pid_t) {
    guard let bytes = try? Data(contentsOf: URL(fileURLWithPath: folder / "progress")), bytes.count >= 16 else { return (0, 0) }
    return bytes.withUnsafeBytes { (Int($0.load(as: Int64.self)), pid_t($0.load(fromByteOffset: 8, as: Int64.self))) }
  }

  @Test(arguments: Victim.allCases) func whateverIsKilledTheTraceIsReadableAndTheProgramUnharmed(victim: Victim) throws {
    let program = try program()
    let run = folder / "run"
    try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
    for round in 0..<Self.rounds {
      for name in ["progress", "done", "data"] { unlink(folder / name) }
      let recorder = try StartedCommand(
        traceRecord, ["run", "--no-calibration", "--force", "--quiet", "--run-dir", run, "-o", output, "--", program], in: folder.path)
      while progress().process == 0 { usleep(500) }
      let process = progress().process
      // A moment by the program's progress: by the clock, a busy machine would let it end first.
      let moment = Int.random(in: 0..<140_000)
      let latest = Date().addingTimeInterval(60)
      while progress().calls < moment, Date() < latest { usleep(500) }
      if victim != .program { kill(recorder.processID, SIGKILL) }
      if victim != .recorder { kill(process, SIGKILL) }
      let hadEnded = FileManager.default.fileExists(atPath: folder / "done")
      let status = recorder.wait().status
      if victim == .recorder {
        let deadline = Date().addingTimeInterval(60)
        while !FileManager.default.fileExists(atPath: folder / "done"), Date() < deadline { usleep(2000) }
        #expect(FileManager.default.fileExists(atPath: folder / "done"), "round \(round): the program did not finish")
        #expect(progress().calls == 150_000)
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder / "data")).count == 150_000)
      }
      // Killed when everything was over, the recorder may have closed its trace.
      try checkTrace(isClosed: victim == .program || hadEnded && (try TraceReader(path: output).totals != nil), round: round)
      if victim == .program { #expect(status == 128 + SIGKILL || status == 0) }
    }
    // Nothing stays behind once the next recorder has started; folders that were made in this second or the last are left alone.
    usleep(2_500_000)
    try record(["true"], to: output, options: ["--force", "--run-dir", run])
    #expect(try FileManager.default.contentsOfDirectory(atPath: run).isEmpty)
  }

  /// The trace has the program's writes from the first on, without a hole.
  private func checkTrace(isClosed: Bool, round: Int) throws {
    let reader = try TraceReader(path: output)
    let batch = EventBatch(capacity: 4096)
    var next: UInt64 = 0
    var isWhole = true
    while try reader.next(into: batch) {
      for event in batch.buffer where event.operation == .write && reader.files[Int(event.file)].displayPath.hasSuffix("/data") {
        if event.offsetBytes != next { isWhole = false }
        next = event.offsetBytes + 1
      }
    }
    #expect(isWhole, "round \(round)")
    #expect((reader.totals != nil) == isClosed, "round \(round)")
    // What was cut is at most the last block.
    #expect(reader.damages.count <= (isClosed ? 0 : 1), "round \(round): \(reader.damages)")
    if isClosed {
      #expect(next >= UInt64(progress().calls), "round \(round): \(next) of \(progress().calls)")
      #expect(reader.totals?.lossless == true && reader.metadata.ledger != nil)
    } else {
      let information = try run(traceRecord, ["info", output])
      #expect(information.status == 0 && information.stdout.contains("none: the recording was cut short"))
      let recovered = try run(traceRecord, ["recover", output, "-o", folder / "recovered.iotrace", "--force"])
      #expect(recovered.status == 0, "\(recovered.stderr)")
      #expect(try TraceReader(path: folder / "recovered.iotrace").totals?.writes ?? 0 >= next)
    }
  }

  /// A filesystem of half a mebibyte, unmounted by `body`'s end.
  private func onSmallFilesystem(_ body: (String) throws -> Void) throws {
    let mount = folder / "small"
    try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: true)
    try #require(try run("mount", ["-t", "tmpfs", "-o", "size=512k", "tmpfs", mount]).status == 0)
    defer { _ = try? run("umount", ["-l", mount]) }
    try body(mount)
  }

  @Test(.enabled(if: getuid() == 0, "needs root to mount a small filesystem"))
  func aFullDiskLeavesWholePiecesAndLetsTheProgramRun() throws {
    try onSmallFilesystem { mount in
      let result = try record([try program(), "scattered"], to: mount + "/trace.iotrace", options: ["--rotate", "128K"], in: folder.path)
      #expect(result.status == 125 && result.stderr.contains("No space left") && progress().calls == 150_000)
      let names = try FileManager.default.contentsOfDirectory(atPath: mount).sorted()
      #expect(names.count >= 3)
      for name in names.dropLast() { #expect(try TraceReader(path: mount + "/" + name).totals?.lossless == true, "\(name)") }
    }
  }

  @Test(.enabled(if: getuid() == 0, "needs root to mount a small filesystem"))
  func aTriggerThatFindsADiskFullIsSaidAndTheNextOneWorks() throws {
    try onSmallFilesystem { mount in
      let fill = mount + "/fill"
      try Data(count: 500 << 10).write(to: URL(fileURLWithPath: fill))
      let recorder = try StartedCommand(
        traceRecord, ["run", "--no-calibration", "--last", "60s", "-o", mount + "/trace.iotrace", "--", try program()], in: folder.path)
      while progress().calls < 50_000 { usleep(1000) }
      let failed = try run(traceRecord, ["trigger", "\(recorder.processID)"])
      #expect(failed.status == 1 && failed.stderr.contains("No space left"), "\(failed.stderr)")
      unlink(fill)
      let written = try run(traceRecord, ["trigger", "\(recorder.processID)"])
      #expect(written.status == 0, "\(written.stderr)")
      #expect(try TraceReader(path: mount + "/trace.0002.iotrace").totals?.writes ?? 0 >= 50_000)
      let result = recorder.wait()
      #expect(result.status == 0 && result.stderr.contains("1 triggers came to nothing") && progress().calls == 150_000)
    }
  }
}
