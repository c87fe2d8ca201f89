import CTrace
import Foundation
import Testing
import TraceKit

/// Small programs with known I/O, compiled on the spot and recorded.
@Suite(.serialized, .enabled(if: installed("cc") != nil, "no C compiler"))
struct RecordProgramTests {
  let folder: TemporaryFolder
  var output: String { folder / "trace.iotrace" }

  init() throws { folder = try TemporaryFolder() }

  private static let headers = """
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <signal.h>
    #include <spawn.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <sys/uio.h>
    #include <sys/wait.h>
    #include <unistd.h>
    extern char **environ;

    """

  /// Compiles `body` as a program, records it in the test's folder, and reads the trace.
  private func recorded(_ body: String, options: [String] = [], expecting status: Int32 = 0) throws -> RecordedTrace {
    let program = try compileC(Self.headers + body, in: folder)
    let result = try record([program], to: output, options: options + ["--force"], in: folder.path)
    #expect(result.status == status, "\(result.stderr)")
    return try RecordedTrace(output)
  }

  private func offsets(_ events: [TraceEvent]) -> [UInt64?] { events.map(\.offsetIfKnown) }

  @Test func duplicatesShareOnePosition() throws {
    let trace = try recorded(
      """
      int main() {
        int a = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
        write(a, "12345", 5);
        int b = dup(a), c = fcntl(a, F_DUPFD_CLOEXEC, 50);
        write(b, "678", 3);
        dup2(a, 60);
        close(a);
        write(c, "90", 2);
        lseek(60, 4, SEEK_SET);
        char p[3];
        read(b, p, 3);
        return 0;
      }
      """)
    #expect(offsets(trace.events(.write, "/data")) == [0, 5, 8])
    #expect(offsets(trace.events(.read, "/data")) == [4])
    #expect(trace.events(.write).allSatisfy { $0.flags.contains(.sequentialCall) && !$0.flags.contains(.inferredOffset) })
    #expect(trace.events(.duplicate, "/data").count == 3)
    #expect(trace.events(.open, "/data").first?.flags == [.create, .truncating, .openRead, .openWrite])
    #expect(trace.files.first { $0.displayPath.hasSuffix("/data") }?.kind == .regular)
  }

  @Test func forkedChildrenShareThePositionWithTheirParent() throws {
    let trace = try recorded(
      """
      int main() {
        int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
        write(fd, "12345", 5);
        if (fork() == 0) { write(fd, "child", 5); _exit(0); }
        wait(0);
        write(fd, "parent", 6);
        if (syscall(SYS_fork) == 0) { write(fd, "raw", 3); syscall(SYS_exit_group, 0); }
        wait(0);
        write(fd, "end", 3);
        write(fd, "certain", 7);
        return 0;
      }
      """)
    let writes = trace.events(.write, "/data")
    #expect(offsets(writes) == [0, 5, 10, 16, 19, 22])
    #expect(Set(writes.map(\.processID)).count == 3)
    #expect(writes.map { $0.flags.contains(.inferredOffset) } == [false, false, true, false, true, false])
  }

  @Test func programsStartedInEveryWayAreRecorded() throws {
    let trace = try recorded(
      """
      static void in_child(const char *how) {
        char *arguments[] = {"cat", "input", 0};
        char *scrubbed[] = {"A=b", 0};
        if (!strcmp(how, "execl")) execl("/bin/cat", "cat", "input", (char *)0);
        if (!strcmp(how, "execle")) execle("/bin/cat", "cat", "input", (char *)0, scrubbed);
        if (!strcmp(how, "execlp")) execlp("cat", "cat", "input", (char *)0);
        if (!strcmp(how, "execv")) execv("/bin/cat", arguments);
        if (!strcmp(how, "execve")) execve("/bin/cat", arguments, scrubbed);
        if (!strcmp(how, "execvp")) execvp("cat", arguments);
        if (!strcmp(how, "execvpe")) execvpe("cat", arguments, scrubbed);
        if (!strcmp(how, "fexecve")) fexecve(open("/bin/cat", O_RDONLY | O_CLOEXEC), arguments, scrubbed);
        _exit(1);
      }
      int main() {
        int fd = open("input", O_WRONLY | O_CREAT | O_TRUNC, 0600);
        write(fd, "hello", 5);
        close(fd);
        const char *ways[] = {"execl", "execle", "execlp", "execv", "execve", "execvp", "execvpe", "fexecve"};
        for (int i = 0; i < 8; i++) { if (fork() == 0) in_child(ways[i]); wait(0); }
        pid_t child = vfork();
        if (child == 0) { close(0); execl("/bin/cat", "cat", "input", (char *)0); _exit(1); }
        wait(0);
        char *arguments[] = {"cat", "input", 0};
        char *scrubbed[] = {"A=b", 0};
        posix_spawn(&child, "/bin/cat", 0, 0, arguments, scrubbed);
        wait(0);
        posix_spawnp(&child, "cat", 0, 0, arguments, environ);
        wait(0);
        if (system("cat input")) return 1;
        FILE *stream = popen("cat input", "r");
        char line[10];
        if (!fgets(line, 10, stream) || strcmp(line, "hello")) return 2;
        return pclose(stream);
      }
      """)
    #expect(Set(trace.events(.open, "/input").map(\.processID)).count == 14)
  }

  @Test func aVforkChildLeavesItsParentsStateAlone() throws {
    let trace = try recorded(
      """
      int main() {
        int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
        write(fd, "12345", 5);
        pid_t child = vfork();
        if (child == 0) { close(fd); dup2(1, fd); _exit(7); }
        int status;
        waitpid(child, &status, 0);
        if (WEXITSTATUS(status) != 7) return 1;
        return write(fd, "678", 3) != 3;
      }
      """)
    #expect(offsets(trace.events(.write, "/data")) == [0, 5])
    #expect(trace.events(.close, "/data").isEmpty)
  }

  @Test func appendedOffsetsAreTheFilesEndAndMarkedInferred() throws {
    let trace = try recorded(
      """
      int main() {
        int fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600), other = open("log", O_WRONLY | O_APPEND);
        write(fd, "1", 1);
        write(other, "22", 2);
        write(fd, "333", 3);
        pwrite(fd, "4444", 4, 0);
        fcntl(other, F_SETFL, 0);
        return write(other, "x", 1) != 1;
      }
      """)
    let writes = trace.events(.write, "/log")
    #expect(offsets(writes) == [0, 1, 3, 6, 3])
    #expect(writes.map { $0.flags.contains(.append) } == [true, true, true, true, false])
    #expect(writes.prefix(4).allSatisfy { $0.flags.contains(.inferredOffset) })
  }

  @Test func everySpellingIsSeen() throws {
    let trace = try recorded(
      """
      int main() {
        char p[8] = "abcdefg";
        struct iovec v[2] = {{p, 2}, {p + 2, 3}};
        int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (pwrite(fd, p, 7, 10) != 7 || pwrite64(fd, p, 1, 1) != 1) return 1;
        if (writev(fd, v, 2) != 5 || pwritev(fd, v, 2, 100) != 5 || pwritev64(fd, v, 2, 200) != 5) return 2;
        if (pwritev2(fd, v, 2, 300, RWF_DSYNC) != 5 || pwritev2(fd, v, 2, -1, 0) != 5) return 3;
        if (preadv(fd, v, 2, 0) != 5 || preadv2(fd, v, 1, 0, 0) != 2 || readv(fd, v, 2) != 5) return 4;
        if (syscall(SYS_pwrite64, fd, p, 3, 400L) != 3 || syscall(SYS_pread64, fd, p, 3, 400L) != 3) return 5;
        fsync(fd); fdatasync(fd); sync_file_range(fd, 0, 4096, 0);
        ftruncate(fd, 50); truncate("data", 60); fallocate(fd, 0, 0, 4096); posix_fallocate(fd, 4096, 4096);
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
        void *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
        msync(m, 4096, MS_SYNC);
        munmap(m, 4096);
        link("data", "other"); rename("data", "new"); unlink("new"); unlink("other");
        errno = 0;
        if (open("missing/name", O_RDONLY) != -1 || errno != ENOENT) return 6;
        if (read(-1, p, 1) != -1 || errno != EBADF) return 7;
        creat("made", 0600);
        close_range(3, ~0u, 0);
        return 0;
      }
      """)
    #expect(offsets(trace.events(.write, "/data")) == [10, 1, 0, 100, 200, 300, 5, 400])
    #expect(trace.events(.write, "/data").map(\.result) == [7, 1, 5, 5, 5, 5, 5, 3])
    #expect(offsets(trace.events(.read, "/data")) == [0, 0, 10, 400])
    #expect(trace.events(.write)[5].flags.isSuperset(of: [.vectored, .requestDataSync]))
    for (operation, count) in [
      (TraceOperation.fsync, 1), (.fdatasync, 1), (.syncFileRange, 1), (.truncate, 2), (.allocate, 2), (.discard, 1), (.map, 1),
      (.msync, 1), (.unmap, 1), (.link, 1), (.rename, 1), (.unlink, 2), (.open, 3), (.close, 2),
    ] {
      #expect(trace.events(operation).count == count, "\(operation.name)")
    }
    #expect(trace.events(.truncate).map(\.offsetBytes) == [50, 60])
    #expect(trace.events(.map)[0].flags.isSuperset(of: [.sharedMapping, .writableMapping]) && trace.events(.map)[0].offsetBytes == 4096)
    let renamed = trace.events(.rename)[0]
    #expect(trace.path(renamed).hasSuffix("/data") && trace.files[Int(renamed.otherFile)].displayPath.hasSuffix("/new"))
    #expect(trace.events(.open, "/missing/name").map(\.result) == [-Int64(ENOENT)])
    #expect(trace.events.contains { $0.operation == .read && $0.result == -Int64(EBADF) && $0.fileIfKnown == nil })
  }

  @Test func signalHandlersMayDoTheirOwnIO() throws {
    let trace = try recorded(
      """
      static int fd;
      static volatile int handled;
      static void handler(int signal) { int saved = errno; if (pwrite(fd, "s", 1, 8192) == 1) handled++; errno = saved; }
      int main() {
        fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
        char p[4096] = {0};
        write(fd, p, 4096);
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
        sigaction(SIGALRM, &action, 0);
        ualarm(150, 150);
        int calls = 0;
        while (handled < 300) { pread(fd, p, 4096, 0); calls++; }
        ualarm(0, 0);
        fprintf(stderr, "%d\\n", calls);
        int out = open("count", O_WRONLY | O_CREAT, 0600);
        write(out, &calls, sizeof calls);
        write(out, (int *)&handled, sizeof handled);
        return 0;
      }
      """)
    let counts = try Data(contentsOf: URL(fileURLWithPath: folder / "count")).withUnsafeBytes {
      [$0.load(as: Int32.self), $0.load(fromByteOffset: 4, as: Int32.self)]
    }
    #expect(trace.events(.read, "/data").count == Int(counts[0]))
    #expect(trace.events(.write, "/data").count == Int(counts[1]) + 1)
    #expect(trace.gaps.isEmpty)
  }

  @Test func longjmpOutOfACallLeavesNothingBehind() throws {
    let trace = try recorded(
      """
      #include <setjmp.h>
      static sigjmp_buf back;
      static void handler(int signal) { siglongjmp(back, 1); }
      int main() {
        int ends[2];
        char p;
        pipe(ends);
        signal(SIGALRM, handler);
        if (!sigsetjmp(back, 1)) { ualarm(5000, 0); read(ends[0], &p, 1); }
        int fd = open("data", O_RDWR | O_CREAT, 0600);
        for (int i = 0; i < 100; i++) pwrite(fd, "x", 1, i);
        return 0;
      }
      """)
    #expect(offsets(trace.events(.write, "/data")) == (0..<100).map { UInt64($0) })
    #expect(trace.totals?.sorted == true)
  }

  @Test func threadsComeAndGo() throws {
    let trace = try recorded(
      """
      static void *work(void *argument) {
        int fd = open("data", O_RDWR);
        char p[16];
        for (int i = 0; i < 50; i++) pread(fd, p, 16, i);
        close(fd);
        return 0;
      }
      int main() {
        close(open("data", O_RDWR | O_CREAT, 0600));
        for (int round = 0; round < 20; round++) {
          pthread_t ids[8];
          for (int i = 0; i < 8; i++) pthread_create(&ids[i], 0, work, 0);
          for (int i = 0; i < 8; i++) pthread_join(ids[i], 0);
        }
        return 0;
      }
      """)
    #expect(trace.events(.read, "/data").count == 8000)
    #expect(trace.totals?.threads == 161 && trace.totals?.lossless == true && trace.totals?.sorted == true)
  }

  @Test func closingEveryDescriptorDoesNotStopTheRecording() throws {
    let trace = try recorded(
      """
      int main() {
        for (int round = 0; round < 3; round++) {
          if (round == 0) close_range(3, ~0u, 0);
          if (round == 1) for (int fd = 3; fd < 1024; fd++) close(fd);
          if (round == 2) syscall(SYS_close_range, 3, ~0u, 0);
          int fd = open("data", O_RDWR | O_CREAT, 0600);
          if (fd != 3 || write(fd, "x", 1) != 1) return 1;
        }
        return 0;
      }
      """)
    #expect(offsets(trace.events(.write, "/data")) == [0, 0, 0])
  }

  @Test func aKilledProgramLosesNothingThatReturned() throws {
    let trace = try recorded(
      """
      int main() {
        int fd = open("data", O_RDWR | O_CREAT, 0600);
        for (int i = 0; i < 10000; i++) pwrite(fd, "x", 1, i);
        kill(getpid(), SIGKILL);
      }
      """, expecting: 128 + SIGKILL)
    #expect(trace.events(.write, "/data").count == 10000)
    #expect(trace.totals?.lossless == true)
  }

  @Test func statusAndSignalsPassThrough() throws {
    #expect(try record(["sh", "-c", "echo out; echo err >&2; exit 42"], to: output).status == 42)
    let ended = try record(["sh", "-c", "kill -TERM $$"], to: output, options: ["--force"])
    #expect(ended.signal == SIGTERM)
    // A signal sent to the recorder reaches the program.
    let program = StartedProgram.script
    let started = try StartedCommand(
      traceRecord, ["run", "--no-calibration", "--quiet", "--force", "-o", output, "--", "sh", "-c", program], in: folder.path)
    while !FileManager.default.fileExists(atPath: folder / "ready") { usleep(2000) }
    kill(started.processID, SIGTERM)
    let result = started.wait()
    #expect(result.status == 9 && result.stdout == "caught\n")
    #expect(try RecordedTrace(output).totals != nil)
  }

  private enum StartedProgram {
    static let script = "trap 'echo caught; exit 9' TERM; : > ready; while :; do sleep 0.05; done"
  }

  @Test func aDeadRecorderDoesNotStopTheProgram() throws {
    for mode in ["drop", "block"] {
      let program = try compileC(
        Self.headers + """
          int main() {
            int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
            for (long i = 0; i < 300000; i++) {
              if (pwrite(fd, "x", 1, i % 4096) != 1) return 1;
              if (i == 1000) { close(creat("ready", 0600)); while (access("go", F_OK)) usleep(1000); }
            }
            close(creat("done", 0600));
            return 0;
          }
          """, in: folder)
      for name in ["ready", "go", "done"] { unlink(folder / name) }
      let started = try StartedCommand(
        traceRecord,
        ["run", "--no-calibration", "--force", "--ring-size", "256K", "--on-full", mode, "-o", output, "--", program], in: folder.path)
      while !FileManager.default.fileExists(atPath: folder / "ready") { usleep(1000) }
      usleep(1_200_000)
      kill(started.processID, SIGKILL)
      _ = started.wait()
      close(creat(folder / "go", 0o600))
      let deadline = Date().addingTimeInterval(20)
      while !FileManager.default.fileExists(atPath: folder / "done"), Date() < deadline { usleep(5000) }
      #expect(FileManager.default.fileExists(atPath: folder / "done"), "--on-full \(mode)")
      // What the recorder had flushed by then is readable.
      #expect(try TraceReader(path: output).knownEvents >= 1000)
    }
  }

  @Test func aFullDiskKeepsWhatWasWrittenAndLetsTheProgramRun() throws {
    try #require(getuid() == 0, "needs root to mount a small filesystem")
    let mount = folder / "small"
    try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: true)
    try #require(try run("mount", ["-t", "tmpfs", "-o", "size=512k", "tmpfs", mount]).status == 0)
    defer { _ = try? run("umount", ["-l", mount]) }
    let program = try compileC(
      Self.headers + """
        int main() {
          int fd = open("data", O_RDWR | O_CREAT, 0600);
          unsigned random = 1;
          for (int i = 0; i < 400000; i++) { random = random * 1103515245 + 12345; pwrite(fd, "x", 1, random % 1000003); }
          return write(1, "finished", 8) != 8;
        }
        """, in: folder)
    let trace = mount + "/trace.iotrace"
    let result = try record([program], to: trace, in: folder.path)
    #expect(result.status == 125 && result.stdout == "finished")
    #expect(result.stderr.contains("No space left"))
    let reader = try TraceReader(path: trace)
    #expect(reader.knownEvents > 1000)
  }

  @Test func fourThreadsLoseNothingAtAMillionCallsPerSecond() throws {
    let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let source = try String(contentsOf: package.appending(path: "Benchmarks/record-cost.c"), encoding: .utf8)
    let program = try compileC(source, in: folder, flags: ["-O2"])
    // A quarter of a second at the full rate, 100,000 calls each.
    let result = try record([program, "100000", "4", "1000000"], to: output, in: folder.path)
    #expect(result.status == 0)
    let trace = try RecordedTrace(output)
    #expect(trace.gaps.isEmpty && trace.totals?.lossless == true)
    #expect((trace.totals?.reads ?? 0) + (trace.totals?.writes ?? 0) >= 4 * 99_999)
  }

  @Test func aFullRingDropsCountsAndTellsWhen() throws {
    let body = """
      int main() {
        int fd = open("data", O_RDWR | O_CREAT, 0600);
        kill(getppid(), SIGSTOP);
        for (int i = 0; i < 5000; i++) pwrite(fd, "x", 1, i);
        kill(getppid(), SIGCONT);
        usleep(300000);
        return 0;
      }
      """
    let trace = try recorded(body, options: ["--ring-size", "64K"])
    #expect(trace.gaps.count >= 1)
    let lost = trace.gaps.reduce(0) { $0 + $1.sizeBytes }
    #expect(UInt64(trace.events(.write, "/data").count) + lost == 5000)
    #expect(trace.gaps.allSatisfy { $0.result == GapCause.ringFull.rawValue && $0.latencyNanoseconds > 0 })
    #expect(trace.totals?.lossless == false && trace.totals?.lostEvents == lost)
  }

  @Test func blockingWaitsForRoomAndLosesNothing() throws {
    let trace = try recorded(
      """
      int main() {
        int fd = open("data", O_RDWR | O_CREAT, 0600);
        for (int i = 0; i < 100000; i++) pwrite(fd, "x", 1, i);
        return 0;
      }
      """, options: ["--ring-size", "64K", "--on-full", "block"])
    #expect(trace.events(.write, "/data").count == 100_000 && trace.gaps.isEmpty)
  }

  @Test func filtersKeepOnlyTheFilesThatMatch() throws {
    let body = """
      int main() {
        mkdir("a", 0700);
        const char *names[] = {"a/one.db", "a/two.txt", "three.db"};
        for (int i = 0; i < 3; i++) { int fd = open(names[i], O_RDWR | O_CREAT, 0600); write(fd, "x", 1); close(fd); }
        return 0;
      }
      """
    let trace = try recorded("#include <sys/stat.h>\n" + body, options: ["--include", "*.db", "--exclude", "*/three*"])
    #expect(trace.events.count == 3 && trace.files.map { $0.displayPath.hasSuffix("/a/one.db") } == [true])
    #expect(trace.metadata.ledger?.excludedEvents == 6)
  }

  @Test func anonymousTracesHoldNoName() throws {
    let body = """
      int main() { int fd = open("secret-name.db", O_RDWR | O_CREAT, 0600); write(fd, "x", 1); rename("secret-name.db", "secret-other.db"); return 0; }
      """
    let key = try folder.write("key", "0123456789abcdef0123456789abcdef")
    let first = try recorded(body, options: ["--anonymize-key", key])
    #expect(!(try Data(contentsOf: URL(fileURLWithPath: output))).contains(Data("secret".utf8)))
    #expect(first.metadata.anonymized == true && first.metadata.command == nil)
    let name = first.files[0].displayPath
    #expect(name.hasSuffix(".db") && name.split(separator: "/").count == folder.path.split(separator: "/").count + 1)
    #expect(try recorded(body, options: ["--anonymize-key", key]).files[0].displayPath == name)
    #expect(try recorded(body, options: ["--anonymize"]).files[0].displayPath != name)
  }

  @Test func programsThatCannotBeRecordedAreRefusedBeforeTheyStart() throws {
    let fixed = try compileC("int main() { return 0; }", in: folder, name: "static", flags: ["-static"])
    let result = try record([fixed], to: output, options: ["--route", "preload"])
    #expect(result.status == 126 && result.stderr.contains("statically linked"))
    #expect(try record(["no-such-program"], to: output).status == 127)
    #expect(try record(["./missing"], to: output).status == 127)
    #expect(try record([folder.path], to: output).status == 126)
    let plain = try folder.write("plain", "text")
    #expect(try record([plain], to: output).status == 126)
    if getuid() == 0 {
      try FileManager.default.copyItem(atPath: "/bin/true", toPath: folder / "setuid")
      chown(folder / "setuid", 12345, 0)
      chmod(folder / "setuid", 0o4755)
      let refused = try record([folder / "setuid"], to: output, options: ["--route", "preload"])
      #expect(refused.status == 126 && refused.stderr.contains("setuid"))
    }
    #expect(!FileManager.default.fileExists(atPath: output))
  }

  @Test func outputIsPrivateAndNotOverwritten() throws {
    #expect(try record(["true"], to: output).status == 0)
    var status = stat()
    stat(output, &status)
    #expect(status.st_mode & 0o777 == 0o600)
    let again = try record(["sh", "-c", "echo started"], to: output)
    #expect(again.status == 125 && again.stderr.contains("--force") && again.stdout.isEmpty)
    #expect(try record(["true"], to: folder / "no/such/folder").status == 125)
  }

  @Test func theSummaryTellsWhatWasRecorded() throws {
    let program = try compileC(
      Self.headers + "int main() { int fd = open(\"data\", O_RDWR | O_CREAT, 0600); write(fd, \"12345678\", 8); return 0; }", in: folder)
    let result = try run(traceRecord, ["run", "-o", output, "--", program], in: folder.path)
    for part in ["2 events", "1 writes of 8 B", "1 file", "1 process", "dropped: 0", "coverage by /proc/PID/io", "ns per event"] {
      #expect(result.stderr.contains(part), "\(part): \(result.stderr)")
    }
    let trace = try RecordedTrace(output)
    #expect((trace.metadata.costPerEventNanoseconds ?? 0) > 0)
    let ledger = try #require(trace.metadata.ledger)
    #expect(ledger.routes.map(\.name) == ["preload"] && ledger.routes[0].events == 2)
    #expect(ledger.routes[0].costPerEventNanoseconds == trace.metadata.costPerEventNanoseconds)
    #expect(ledger.routes[0].operations.map(\.operation) == ["write", "open"] && ledger.routes[0].operations[0].bytes == 8)
    #expect(ledger.coverage.first { $0.counter == "written" }?.kernel == 8)
    #expect(ledger.losses.isEmpty && (ledger.shareOfOneCPU ?? 0) > 0)
    #expect(trace.metadata.command == [program])
  }

  @Test func programsKeepTheirOwnPreloadedLibraries() throws {
    let library = try compileC("int unused_by_anyone;", in: folder, name: "own.so", flags: ["-shared", "-fPIC"])
    let result = try record(["sh", "-c", "echo $LD_PRELOAD"], to: output, environment: ["LD_PRELOAD": library])
    #expect(result.stdout.hasPrefix("\(library):/"))
  }

  @Test func abandonedRunFoldersAreRemovedAndLivingOnesKept() throws {
    let run = folder / "run"
    try FileManager.default.createDirectory(atPath: run + "/trace-record.dead00", withIntermediateDirectories: true)
    close(creat(run + "/trace-record.dead00/lock", 0o600))
    var times = [timeval(tv_sec: 1000, tv_usec: 0), timeval(tv_sec: 1000, tv_usec: 0)]
    utimes(run + "/trace-record.dead00/lock", &times)
    let sleeper = try StartedCommand(
      traceRecord, ["run", "--no-calibration", "--run-dir", run, "-o", folder / "a.iotrace", "--", "sleep", "2"])
    usleep(1_500_000)
    #expect(try record(["true"], to: output, options: ["--run-dir", run]).status == 0)
    #expect(try FileManager.default.contentsOfDirectory(atPath: run).count == 1)
    #expect(sleeper.wait().status == 0)
    #expect(try FileManager.default.contentsOfDirectory(atPath: run).isEmpty)
  }

  @Test func descendantsAreWaitedForOnRequest() throws {
    let script = "(sleep 0.4; cat input > copy) & exit 0"
    try folder.write("input", "text")
    try record(["sh", "-c", script], to: output, options: ["--wait-all"], in: folder.path)
    #expect(try RecordedTrace(output).events(.open, "/input").count == 1)
  }
}
