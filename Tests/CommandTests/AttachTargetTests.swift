import CTrace
import Foundation
import Testing
import TraceKit

/// Which processes `trace-record attach` records when they are named by their group, by their name, or not at all.
@Suite(.serialized, .enabled(if: tracingIsPossible, "tracing needs root and a kernel with tracefs"))
struct AttachTargetTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// A program that waits for the file `go` in its folder and then writes to `data-ARGUMENT` a hundred times.
  private func compile(_ name: String) throws -> String {
    try compileC(
      """
      #include <fcntl.h>
      #include <stdio.h>
      #include <unistd.h>
      int main(int argc, char **argv) {
        char name[64], buffer[512] = {0};
        snprintf(name, sizeof name, "data-%s", argv[1]);
        while (access("go", F_OK)) usleep(1000);
        int fd = open(name, O_WRONLY | O_CREAT, 0600);
        for (int i = 0; i < 100; i++) if (pwrite(fd, buffer, 512, i * 512L) != 512) return 1;
        usleep(100000);
        return 0;
      }
      """, in: folder, name: name)
  }

  private func start(_ program: String, _ argument: String) throws -> StartedCommand {
    try StartedCommand(program, [argument], in: folder.path)
  }

  /// How many writes each of the programs' files has in the trace, by the files' last letter.
  private func writes(_ output: String) throws -> [String: Int] {
    let trace = try RecordedTrace(output)
    return trace.events.filter { $0.operation == .write }.reduce(into: [:]) { counts, event in
      let path = trace.path(event)
      if path.contains("/data-") { counts[String(path.suffix(1)), default: 0] += 1 }
    }
  }

  /// Lets the programs write and ends the recording.
  private func finish(_ programs: [StartedCommand], _ recorder: RunningRecorder) throws {
    // New members are looked for every 250 ms.
    usleep(1_500_000)
    try folder.write("go", "")
    for program in programs { #expect(program.wait().status == 0) }
    let result = recorder.stop()
    #expect(result.status == 0, "\(result.stderr)")
  }

  @Test func programsOfOneNameAreRecordedAlsoThoseThatStartLater() throws {
    let (meant, other) = (try compile("meant-program"), try compile("other-program"))
    let first = try start(meant, "a")
    let stranger = try start(other, "x")
    usleep(100_000)
    let output = folder / "t.iotrace"
    let recorder = try RunningRecorder(["attach", "--no-calibration", "-o", output, "--comm", "meant-program"])
    let second = try start(meant, "b")
    try finish([first, second, stranger], recorder)
    #expect(try writes(output) == ["a": 100, "b": 100])
  }

  @Test(.enabled(if: cgroupRoot != nil, "no cgroup filesystem can be written to"))
  func programsOfACgroupAreRecordedAlsoThoseThatJoinLater() throws {
    let group = try #require(cgroupRoot) + "/iotrace-test-\(getpid())"
    try FileManager.default.createDirectory(atPath: group + "/below", withIntermediateDirectories: true)
    defer { for folder in [group + "/below", group] { rmdir(folder) } }
    func join(_ program: StartedCommand, _ folder: String) throws {
      try "\(program.processID)".write(toFile: folder + "/cgroup.procs", atomically: false, encoding: .utf8)
    }
    let program = try compile("program")
    let (first, second, stranger) = (try start(program, "a"), try start(program, "b"), try start(program, "x"))
    try join(first, group)
    let output = folder / "t.iotrace"
    let recorder = try RunningRecorder(["attach", "--no-calibration", "-o", output, "--cgroup", group])
    try join(second, group + "/below")
    try finish([first, second, stranger], recorder)
    #expect(try writes(output) == ["a": 100, "b": 100])
  }

  @Test(arguments: callRoutes) func allIsEveryProgramButTheRecorder(route: String) throws {
    let program = try compile("program")
    let first = try start(program, "a")
    let output = folder / "t.iotrace"
    let recorder = try RunningRecorder(["attach", "--no-calibration", "--route", route, "-o", output, "--all"])
    let second = try start(program, "b")
    try finish([first, second], recorder)
    #expect(try writes(output) == ["a": 100, "b": 100])
    let trace = try RecordedTrace(output)
    #expect(!trace.events.contains { $0.processID == recorder.command.processID })
  }
}

/// A folder of a cgroup filesystem in which groups can be made.
private let cgroupRoot: String? = {
  for folder in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] where access("\(folder)/cgroup.procs", F_OK) == 0 {
    let probe = "\(folder)/iotrace-probe-\(getpid())"
    guard mkdir(probe, 0o755) == 0 else { continue }
    rmdir(probe)
    return folder
  }
  return nil
}()
