import CTrace
import Foundation
import Testing
import TraceKit

/// What programs in the kernel read from the memory of the recorded one: paths, and requests of libaio.
@Suite(.serialized, .enabled(if: callRoutes.contains("bpf"), "this kernel or this user loads no BPF programs"))
struct AttachMemoryTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private static let common = """
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <linux/aio_abi.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <sys/wait.h>
    #include <unistd.h>
    static void wait_for_go(void) { while (access("go", F_OK)) usleep(1000); }

    """

  /// Records a program from `go` to its end.
  private func record(_ body: String, options: [String] = []) throws -> RecordedTrace {
    let binary = try compileC(Self.common + body, in: folder, name: "program")
    let program = try StartedCommand(binary, [], in: folder.path)
    usleep(100_000)
    let output = folder / "t.iotrace"
    let recorder = try RunningRecorder(
      ["attach", "--no-calibration", "--route", "bpf", "-o", output, "--pid", "\(program.processID)"] + options)
    try folder.write("go", "")
    #expect(program.wait().status == 0)
    let result = recorder.command.wait()
    #expect(result.status == 0, "\(result.stderr)")
    return try RecordedTrace(output)
  }

  @Test func filesThatCloseAtOnceHaveTheirNames() throws {
    let trace = try record(
      """
      static void touch(const char *name) { int fd = open(name, O_RDWR | O_CREAT, 0600); write(fd, "x", 1); close(fd); }
      int main() {
        mkdir("below", 0700);
        wait_for_go();
        char name[64];
        for (int i = 0; i < 50; i++) { sprintf(name, "file%d", i); touch(name); unlink(name); }
        int below = open("below", O_RDONLY | O_DIRECTORY);
        int fd = openat(below, "inner", O_RDWR | O_CREAT, 0600);
        write(fd, "xy", 2);
        close(fd);
        chdir("./below");
        touch("deeper");
        if (!fork()) { touch("of-child"); chdir(".."); touch("above"); _exit(0); }
        wait(0);
        fchdir(below);
        touch("again");
        // A name that can't be read is none, and does no harm.
        open((char *)1, O_RDONLY);
        return 0;
      }
      """)
    let writes = trace.events(.write).map { trace.path($0) }
    let expected =
      (0..<50).map { "file\($0)" } + ["below/inner", "below/deeper", "below/of-child", "above", "below/again"]
    let different = zip(writes, expected.map { folder.path + "/" + $0 }).first { $0 != $1 }
    #expect(writes.count == expected.count && different == nil, "\(different.map { "\($0)" } ?? "")")
    #expect(trace.metadata.summary?["nameless_opens"] == "0")
  }

  @Test func whatANameSaysIsNotTakenForWhatItIsNot() throws {
    let trace = try record(
      """
      static void touch(const char *name, int flags) { int fd = open(name, flags, 0600); write(fd, "x", 1); close(fd); }
      int main() {
        touch("stays", O_RDWR | O_CREAT);
        wait_for_go();
        if (!fork()) { touch("stays", O_RDWR); touch(".", O_TMPFILE | O_RDWR); touch("/dev/stderr", O_WRONLY); _exit(0); }
        wait(0);
        usleep(50000);
        // One after another, of one name: the second is not the first.
        touch("again", O_RDWR | O_CREAT);
        rename("again", "moved");
        usleep(20000);
        touch("again", O_RDWR | O_CREAT);
        usleep(20000);
        return 0;
      }
      """)
    let writes = trace.events(.write)
    #expect(writes.count == 5)
    func file(_ event: TraceEvent) -> TraceFile? { trace.files.first { $0.path == Array(trace.path(event).utf8) } }
    let stays = try #require(writes.first { trace.path($0).hasSuffix("/stays") })
    var status = stat()
    #expect(stat(folder / "stays", &status) == 0 && file(stays)?.inode == UInt64(status.st_ino))
    // A file without a name is not its folder.
    #expect(!writes.contains { trace.path($0) == folder.path })
    let first = try #require(writes.first { trace.path($0).hasSuffix("/moved") || trace.path($0).hasSuffix("/again") })
    #expect(file(first)?.inode == nil || stat(folder / "moved", &status) == 0 && file(first)?.inode == UInt64(status.st_ino))
  }

  private static let aio = """
    static aio_context_t context;
    static struct iocb requests[300], *list[300];
    static struct io_event events[300];
    static char buffer[300][512];
    static long submit(long n) { return syscall(SYS_io_submit, context, n, list); }
    static long fetch(long least, long most) { return syscall(SYS_io_getevents, context, least, most, events, NULL); }
    static void prepare(int i, int fd, int opcode, long offset, long length) {
      memset(&requests[i], 0, sizeof requests[i]);
      requests[i].aio_fildes = fd;
      requests[i].aio_lio_opcode = opcode;
      requests[i].aio_buf = length ? (unsigned long)buffer[i] : 0;
      requests[i].aio_nbytes = length;
      requests[i].aio_offset = offset;
      list[i] = &requests[i];
    }

    """

  @Test func requestsOfLibaioAreEventsWithTheirOffsets() throws {
    let trace = try record(
      Self.aio + """
        int main() {
          int fd = open("data", O_RDWR | O_CREAT, 0600);
          syscall(SYS_io_setup, 300, &context);
          memset(buffer, 7, sizeof buffer);
          wait_for_go();
          prepare(0, fd, IOCB_CMD_PWRITE, 4096, 512);
          prepare(1, fd, IOCB_CMD_PWRITE, 8192, 100);
          prepare(2, fd, IOCB_CMD_FDSYNC, 0, 0);
          prepare(3, 99, IOCB_CMD_PREAD, 0, 512);   // no such descriptor: the call takes three
          if (submit(4) != 3 || fetch(3, 3) != 3) return 1;
          prepare(0, fd, IOCB_CMD_PREAD, 8000, 512);
          if (submit(1) != 1 || fetch(1, 10) != 1) return 2;
          for (int i = 0; i < 300; i++) prepare(i, fd, IOCB_CMD_PREAD, i, 1);
          if (submit(300) != 300) return 3;
          for (long got = 0; got < 300;) got += fetch(1, 300);
          return 0;
        }
        """)
    let first = trace.events.filter { $0.flags.contains(.asynchronous) }.prefix(4).map {
      "\($0.operation.name) \($0.offsetIfKnown.map(String.init) ?? "-") \($0.sizeIfKnown.map(String.init) ?? "-") = \($0.result)"
    }
    #expect(first == ["write 4096 512 = 512", "write 8192 100 = 100", "fdatasync - - = 0", "read 8000 512 = 292"])
    let summary = trace.metadata.summary ?? [:]
    // Of one call at most 256 requests are read, the others counted.
    #expect(summary["aio_submitted"] == "304" && summary["aio_read"] == "260" && summary["aio_matched"] == "260")
    let single = trace.events(.read, "/data").filter { $0.sizeBytes == 1 }.map(\.offsetBytes)
    let isWhole = single.sorted() == (0..<256).map { UInt64($0) }
    #expect(isWhole)
    let spot = trace.metadata.ledger?.blindSpots.first { $0.name.contains("only the number") }
    #expect(spot?.count == 44)
    #expect(trace.events.allSatisfy { $0.latencyNanoseconds > 0 })
    // The calls themselves are no events beside.
    #expect(trace.events.allSatisfy { $0.operation != .other })
  }

  @Test func recordsOfSeveralPartsGoAroundTheEndOfARing() throws {
    let trace = try record(
      Self.aio + """
        int main() {
          int fd = open("data", O_RDWR | O_CREAT, 0600);
          syscall(SYS_io_setup, 300, &context);
          memset(buffer, 7, sizeof buffer);
          wait_for_go();
          long offset = 0;
          for (int round = 0; round < 2000; round++) {
            int n = 1 + round % 7;
            for (int i = 0; i < n; i++) prepare(i, fd, IOCB_CMD_PWRITE, offset++, 1);
            if (submit(n) != n || fetch(n, n) != n) return 1;
            usleep(300);
          }
          return 0;
        }
        """, options: ["--kernel-buffer", "64K"])
    let count = (0..<2000).reduce(0) { $0 + 1 + $1 % 7 }
    let summary = trace.metadata.summary ?? [:]
    let lost = Int(summary["kernel_events_lost"] ?? "") ?? -1
    let offsets = trace.events(.write, "/data").map(\.offsetBytes)
    #expect(Set(offsets).count == offsets.count && offsets.allSatisfy { $0 < UInt64(count) })
    #expect(summary["malformed_pages"] == "0")
    // A busy machine may let 64 KiB run over; what is lost is said.
    if lost == 0 { #expect(offsets.sorted() == (0..<count).map { UInt64($0) }) } else { #expect(!trace.gaps.isEmpty) }
  }
}
