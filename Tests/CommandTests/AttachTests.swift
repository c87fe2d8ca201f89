import CTrace
import Foundation
import Testing
import TraceKit

/// `trace-record attach` on running programs whose I/O is known.
@Suite(.serialized, .enabled(if: tracingIsPossible, "tracing needs root and a kernel with tracefs"))
struct AttachTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Waits for the file `go` without a traced call, so that everything behind it is recorded.
  private static let waiting = """
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/uio.h>
    #include <sys/wait.h>
    #include <unistd.h>
    static void wait_for_go(void) { while (access("go", F_OK)) usleep(1000); }

    """

  private func startProgram(_ body: String, name: String = "program") throws -> StartedCommand {
    let program = try compileC(Self.waiting + body, in: folder, name: name)
    return try StartedCommand(program, [], in: folder.path)
  }

  private func go() throws { try folder.write("go", "") }

  private func attach(
    _ program: StartedCommand, _ output: String, by route: String = "auto", _ options: [String] = []
  ) throws -> RunningRecorder {
    try RunningRecorder(["attach", "--no-calibration", "-o", output, "--route", route, "--pid", "\(program.processID)"] + options)
  }

  @Test(.enabled(if: callRoutes.contains("bpf"), "this kernel or this user loads no BPF programs")) func autoTakesProgramsInTheKernel()
    throws
  {
    let program = try startProgram("int main() { wait_for_go(); return 0; }")
    let recorder = try attach(program, folder / "t.iotrace")
    try go()
    _ = program.wait()
    let result = recorder.command.wait()
    #expect(result.status == 0 && result.stderr.contains("route: bpf ("), "\(result.stderr)")
  }

  @Test(arguments: callRoutes) func positionsFlagsAndNamesOfOpenFilesAreTakenOver(route: String) throws {
    try folder.write("data", String(repeating: "x", count: 10_000))
    let program = try startProgram(
      """
      int main() {
        int a = open("data", O_RDWR), b = open("log", O_RDWR | O_CREAT | O_APPEND, 0600), c = dup(a);
        char buffer[4096];
        lseek(a, 1234, SEEK_SET);
        if (write(b, buffer, 77) != 77) return 1;
        wait_for_go();
        read(a, buffer, 100);          // at 1234
        read(c, buffer, 50);           // the same description: at 1334
        pread(a, buffer, 10, 7);
        write(b, buffer, 33);          // appended at 77
        struct iovec two[2] = {{buffer, 5}, {buffer + 5, 6}};
        readv(a, two, 2);              // at 1384
        lseek(a, -10, SEEK_END);
        read(a, buffer, 100);          // 10 bytes at 9990
        fsync(a);
        ftruncate(a, 5000);
        read(99, buffer, 1);
        usleep(50000);
        return 0;
      }
      """)
    let output = folder / "t.iotrace"
    usleep(200_000)
    let recorder = try attach(program, output, by: route)
    try go()
    #expect(program.wait().status == 0)
    let result = recorder.command.wait()
    #expect(result.status == 0, "\(result.stderr)")
    let trace = try RecordedTrace(output)
    let lines = trace.events.filter { trace.path($0).hasSuffix("/data") || trace.path($0).hasSuffix("/log") || $0.result == -9 }.map {
      "\($0.operation.name) \(URL(fileURLWithPath: trace.path($0)).lastPathComponent) \($0.offsetIfKnown.map(String.init) ?? "-") "
        + "\($0.sizeIfKnown.map(String.init) ?? "-") = \($0.result)"
    }
    let root = URL(fileURLWithPath: "").lastPathComponent
    let expected = [
      "read data 1234 100 = 100", "read data 1334 50 = 50", "read data 7 10 = 10", "write log 77 33 = 33", "read data 1384 11 = 11",
      "lseek data 9990 - = 9990", "read data 9990 100 = 10", "fsync data - - = 0", "truncate data 5000 - = 0", "read \(root) - 1 = -9",
    ]
    #expect(lines == expected, "\(lines.joined(separator: "\n"))")
    #expect(trace.totals?.lossless == true && trace.metadata.source == route)
    let append = try #require(trace.events(.write, "/log").first)
    #expect(append.flags.contains(.append) && append.flags.contains(.inferredOffset))
    #expect(trace.events.allSatisfy { $0.latencyNanoseconds > 0 || $0.operation == .gap })
    #expect(!tracingInstances().contains { $0.hasPrefix("iotrace-\(recorder.command.processID)") })
  }

  @Test(arguments: callRoutes) func threadsAndChildrenThatStartLaterAreFollowed(route: String) throws {
    let program = try startProgram(
      """
      static void *work(void *number) {
        char name[32], buffer[64];
        snprintf(name, sizeof name, "thread%ld", (long)number);
        int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
        for (int i = 0; i < 20; i++) write(fd, buffer, 64);
        usleep(100000);
        close(fd);
        return 0;
      }
      int main(int argc, char **argv) {
        if (argc > 1) { char b[16]; int fd = open("child", O_RDWR | O_CREAT, 0600); pwrite(fd, b, 16, 160); usleep(100000); return 0; }
        int shared = open("shared", O_RDWR | O_CREAT, 0600);
        char buffer[100];
        wait_for_go();
        pthread_t threads[3];
        for (long i = 0; i < 3; i++) pthread_create(&threads[i], 0, work, (void *)i);
        for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
        write(shared, buffer, 100);
        if (!fork()) { write(shared, buffer, 11); execl(argv[0], argv[0], "again", NULL); _exit(9); }
        wait(0);
        write(shared, buffer, 5);
        return 0;
      }
      """)
    let output = folder / "t.iotrace"
    usleep(200_000)
    let recorder = try attach(program, output, by: route)
    try go()
    #expect(program.wait().status == 0)
    #expect(recorder.command.wait().status == 0)
    let trace = try RecordedTrace(output)
    for i in 0..<3 {
      let writes = trace.events(.write, "/thread\(i)")
      let offsets = writes.map { $0.offsetIfKnown ?? 0 }
      let expected = (0..<20).map { UInt64($0 * 64) }
      #expect(offsets == expected)
      #expect(Set(writes.map(\.threadID)).count == 1 && Set(writes.map(\.processID)) == [program.processID])
    }
    // The position is one for parent and child.
    let shared = trace.events(.write, "/shared").map { $0.offsetIfKnown ?? 0 }
    #expect(shared == [0, 100, 111])
    let child = try #require(trace.events(.write, "/child").first)
    #expect(child.offsetBytes == 160 && child.processID != program.processID)
  }

  @Test(
    .enabled(if: installed("strace") != nil, "strace is not installed"),
    .enabled(if: installed("python3") != nil, "python3 is not installed"), arguments: callRoutes)
  func straceSeesTheSameTransfers(route: String) throws {
    try folder.write(
      "program.py",
      """
      import os, threading, time
      fd = os.open("data", os.O_RDWR | os.O_CREAT, 0o600)
      os.write(fd, bytes(100000))
      while not os.path.exists("go"): time.sleep(0.01)
      def work(n):
        f = os.open("file%d" % n, os.O_RDWR | os.O_CREAT, 0o600)
        for i in range(200):
          os.write(f, bytes(i + 1)); os.pread(f, 512, i); os.pwrite(f, b"abc", i * 100)
          os.preadv(fd, [bytearray(10), bytearray(i)], i * 10)
          os.lseek(fd, n * 1000, 0) if n == 0 else None
        time.sleep(0.2); os.close(f)
      threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
      [t.start() for t in threads]; [t.join() for t in threads]
      if os.fork() == 0:
        for i in range(50): os.pread(fd, 100, i)
        os._exit(0)
      os.wait()
      """)
    let program = try StartedCommand("python3", [folder / "program.py"], in: folder.path)
    let data = folder / "data"
    #expect(eventually { FileManager.default.fileExists(atPath: data) })
    usleep(200_000)
    let (log, output) = (folder / "strace.log", folder / "t.iotrace")
    let strace = try StartedCommand(
      "strace", ["-f", "-y", "-s", "0", "-o", log, "-e", "trace=" + StraceLog.calls, "-p", "\(program.processID)"])
    #expect(eventually { strace.stderrSoFar.contains("attached") })
    let recorder = try attach(program, output, by: route)
    try go()
    #expect(program.wait().status == 0)
    #expect(recorder.command.wait().status == 0)
    _ = strace.wait()
    let trace = try RecordedTrace(output)
    #expect(trace.totals?.lossless == true)
    func plain(_ list: [ObservedTransfer]) -> [ObservedTransfer] {
      // Only what both were there for: calls on the test's own files.
      // Of vectored calls, which only `data` gets, the recorder knows the size by the result.
      list.filter { $0.path.hasPrefix(folder.path) }.map { transfer in
        var transfer = transfer
        if transfer.path.hasSuffix("/data") { transfer.sizeBytes = nil }
        return transfer
      }
    }
    let (straced, recorded) = (try StraceLog(log).transfers, trace.transfers)
    var compared = 0
    for (thread, seen) in straced {
      let (a, b) = (plain(seen), plain(recorded[thread] ?? []))
      let different = zip(a, b).first { $0 != $1 }.map { "\($0) and \($1)" } ?? "none"
      let isEqual = a == b
      #expect(isEqual, "thread \(thread): strace \(a.count), recorded \(b.count), first difference: \(different)")
      compared += a.count
    }
    #expect(compared == 3 * 200 * 4 + 50)
  }

  @Test(arguments: callRoutes) func whatTheKernelDropsIsCountedExactly(route: String) throws {
    let program = try startProgram(
      """
      int main() {
        int fd = open("data", O_RDWR | O_CREAT, 0600);
        char buffer[16];
        write(fd, buffer, 16);
        wait_for_go();
        for (int i = 0; i < 400000; i++) pread(fd, buffer, 16, 0);
        _exit(0);
      }
      """)
    let output = folder / "t.iotrace"
    usleep(200_000)
    let recorder = try attach(program, output, by: route, ["--kernel-buffer", "64K"])
    try go()
    #expect(program.wait().status == 0)
    #expect(recorder.command.wait().status == 0)
    let information = try information(output)
    let recorded = try figure(information, "calls_pread64")
    let withoutEnd = try figure(information, "calls_without_end")
    let lost = try figure(information, "lost_calls")
    let kernelLost = try figure(information, "kernel_events_lost")
    // Every call is an event, one whose end was lost, or lost whole.
    #expect(abs(recorded + withoutEnd + lost - 400_000) <= 2, "\(recorded) + \(withoutEnd) + \(lost)")
    let trace = try RecordedTrace(output)
    #expect((kernelLost == 0) == (trace.totals?.lossless == true))
    #expect((kernelLost == 0) == trace.gaps.isEmpty)
    #expect(trace.gaps.allSatisfy { $0.result == GapCause.ringFull.rawValue && $0.latencyNanoseconds >= 0 })
  }

  @Test(arguments: callRoutes) func bytesAgreeWithTheKernelsCounters(route: String) throws {
    let program = try startProgram(
      """
      int main() {
        int fd = open("data", O_RDWR | O_CREAT, 0600);
        char buffer[5000];
        wait_for_go();
        for (int i = 0; i < 3000; i++) { pwrite(fd, buffer, i, i); pread(fd, buffer, 5000, i); }
        lseek(fd, 0, SEEK_SET);
        for (int i = 0; i < 300; i++) read(fd, buffer, 7);
        creat("done", 0600);
        sleep(60);
      }
      """)
    let output = folder / "t.iotrace"
    usleep(200_000)
    let recorder = try attach(program, output, by: route)
    try go()
    let done = folder / "done"
    #expect(eventually { FileManager.default.fileExists(atPath: done) })
    #expect(recorder.stop().status == 0)
    kill(program.processID, SIGKILL)
    _ = program.wait()
    let information = try information(output)
    #expect(try figure(information, "kernel_read_bytes") == figure(information, "recorded_read_bytes"))
    #expect(try figure(information, "kernel_written_bytes") == figure(information, "recorded_written_bytes"))
    #expect(try figure(information, "recorded_written_bytes") == 3000 * 2999 / 2)
  }

  @Test(arguments: callRoutes) func aCallInFlightAtAttachIsMarked(route: String) throws {
    let program = try startProgram(
      """
      int main() { int ends[2]; char b[1]; pipe(ends); if (!fork()) { sleep(2); write(ends[1], "x", 1); _exit(0); } read(ends[0], b, 1); return 0; }
      """)
    let output = folder / "t.iotrace"
    usleep(300_000)
    let recorder = try attach(program, output, by: route)
    #expect(program.wait().status == 0)
    #expect(recorder.command.wait().status == 0)
    let trace = try RecordedTrace(output)
    let reads = trace.events(.read).filter { $0.processID == program.processID }
    #expect(reads.count == 1 && reads[0].flags.contains(.inFlightAtAttach) && reads[0].result == 1)
  }

  @Test(arguments: callRoutes) func killsLeaveNothingBehind(route: String) throws {
    let source = """
      int main() { int fd = open("data", O_RDWR | O_CREAT, 0600); char b[512]; for (int i = 0; i < 700; i++) { for (int j = 0; j < 50; j++) pwrite(fd, b, 512, j * 512); usleep(1000); } return 0; }
      """
    let binary = try compileC(Self.waiting + source, in: folder)
    let rounds = ProcessInfo.processInfo.environment["IOTRACE_KILL_ROUNDS"].flatMap { Int($0) } ?? 2
    for round in 0..<3 * rounds {
      let output = folder / "t\(round).iotrace"
      let program = try StartedCommand(binary, [], in: folder.path)
      let recorder = try StartedCommand(
        traceRecord, ["attach", "--quiet", "--no-calibration", "--route", route, "-o", output, "--pid", "\(program.processID)"])
      usleep(useconds_t.random(in: 1000...400_000))
      if round % 3 != 1 { kill(recorder.processID, SIGKILL) }
      if round % 3 != 0 { kill(program.processID, SIGKILL) }
      let ended = program.wait()
      #expect(round % 3 == 0 ? ended.status == 0 : ended.signal == SIGKILL)
      let recorded = recorder.wait(timeoutSeconds: 30)
      #expect(round % 3 == 1 ? recorded.signal == nil : recorded.signal == SIGKILL)
      #expect(eventually { !tracingInstances().contains { $0.hasPrefix("iotrace-\(recorder.processID)") } })
      guard let bytes = try? Data(contentsOf: URL(fileURLWithPath: output)), bytes.count > 200 else { continue }
      #expect(try run(traceRecord, ["info", output]).status == 0)
    }
  }

  @Test func aFullDiskEndsTheRecordingAndNothingElse() throws {
    let small = folder / "small"
    try FileManager.default.createDirectory(atPath: small, withIntermediateDirectories: true)
    let mounted = try run("mount", ["-t", "tmpfs", "-o", "size=128k", "tmpfs", small])
    try #require(mounted.status == 0, "\(mounted.stderr)")
    defer { _ = try? run("umount", [small]) }
    let program = try startProgram(
      """
      int main() {
        int fd = open("data", O_RDWR | O_CREAT, 0600); char b[512];
        unsigned state = 1;
        wait_for_go();
        for (int i = 0; i < 300000; i++) { state = state * 1103515245 + 12345; pwrite(fd, b, state >> 23, state >> 12); }
        return 0;
      }
      """)
    usleep(200_000)
    let recorder = try attach(program, "\(small)/t.iotrace")
    try go()
    let result = recorder.command.wait()
    #expect(result.status == 1 && result.stderr.contains("No space left on device"), "\(result.stderr)")
    #expect(program.wait().status == 0)
    #expect(try run(traceRecord, ["info", "\(small)/t.iotrace"]).status == 0)
    #expect(!tracingInstances().contains { $0.hasPrefix("iotrace-\(recorder.command.processID)") })
  }

  @Test(.enabled(if: installed("setpriv") != nil, "setpriv is not installed"))
  func withoutPrivilegesOneSentenceSaysWhatWorks() throws {
    let result = try run(
      "setpriv",
      ["--reuid", "65534", "--regid", "65534", "--clear-groups", traceRecord, "attach", "-o", folder / "t.iotrace", "--pid", "1"])
    #expect(result.status == 1)
    #expect(result.stderr.contains("root") && result.stderr.contains("'trace-record run'"), "\(result.stderr)")
    #expect(result.stderr.split(separator: "\n").count == 1)
  }

  @Test(.enabled(if: installed("unshare") != nil, "unshare is not installed"))
  func aPIDNamespaceOfItsOwnIsRefused() throws {
    let arguments = ["attach", "-o", folder / "t.iotrace", "--pid", "1"]
    let result = try run("unshare", ["--pid", "--fork", "--mount-proc", traceRecord] + arguments)
    #expect(result.status == 1 && result.stderr.contains("PID namespace"), "\(result.stderr)")
  }

  @Test func targetsThatDoNotExistAreRefused() throws {
    let output = folder / "t.iotrace"
    for (arguments, words) in [
      (["--pid", "999999999"], "no such process"), (["--comm", "no-such-name"], "no process has this name"),
      (["--cgroup", "no/such/group"], "no such cgroup"),
    ] {
      let result = try run(traceRecord, ["attach", "-o", output] + arguments)
      #expect(result.status == 1 && result.stderr.contains(words), "\(result.stderr)")
    }
    #expect(try run(traceRecord, ["attach", "-o", output]).status == 2)
    #expect(!FileManager.default.fileExists(atPath: output))
  }
}
