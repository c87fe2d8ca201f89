import Foundation
import Testing
import TraceKit

/// Programs that a preloaded library does not see, and the routes that do.
@Suite(.serialized, .enabled(if: installed("cc") != nil, "no C compiler"))
struct RecordRouteTests {
  let folder: TemporaryFolder
  var output: String { folder / "trace.iotrace" }

  init() throws { folder = try TemporaryFolder() }

  private static let program = """
    #include <fcntl.h>
    #include <sys/wait.h>
    #include <unistd.h>
    int main() {
      int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
      usleep(500000); // The kernel's events tell no names: the recorder looks the file up while it is open.
      for (int i = 0; i < 100; i++) pwrite(fd, "0123456789", 10, i * 10);
      if (fork() == 0) { for (int i = 0; i < 50; i++) pwrite(fd, "x", 1, i); _exit(0); }
      wait(0);
      fsync(fd);
      return 3;
    }
    """

  @Test(.enabled(if: tracingIsPossible, "tracing needs root and a kernel with tracefs"))
  func aStaticProgramIsRecordedByItsSystemCallsFromTheFirstOn() throws {
    let program = try compileC(Self.program, in: folder, flags: ["-static"])
    let result = try record([program], to: output, in: folder.path)
    #expect(result.status == 3, "\(result.stderr)")
    let expected = callRoutes.first ?? "syscalls"
    #expect(result.stderr.contains("route: \(expected)") && result.stderr.contains("statically linked"), "\(result.stderr)")
    let trace = try RecordedTrace(output)
    #expect(trace.metadata.source == expected && trace.metadata.command == [program])
    #expect(trace.events(.write, "/data").count == 150)
    #expect(trace.events(.open, "/data").count == 1 && trace.events(.fsync, "/data").count == 1)
    #expect(trace.gaps.isEmpty)
  }

  @Test(.enabled(if: tracingIsPossible, "tracing needs root and a kernel with tracefs"))
  func allRoutesSeeADynamicProgramAlike() throws {
    let program = try compileC(Self.program, in: folder)
    var seen: [[String]] = []
    for route in ["preload"] + callRoutes {
      let result = try record([program], to: output, options: ["--route", route, "--force"], in: folder.path)
      #expect(result.status == 3 && result.stderr.contains("route: \(route)"), "\(result.stderr)")
      let trace = try RecordedTrace(output)
      seen.append(
        trace.events.filter { trace.path($0).hasSuffix("/data") }.filter { $0.operation == .write || $0.operation == .fsync }.map {
          "\($0.operation.name) \($0.offsetIfKnown ?? 0) \($0.result)"
        })
    }
    #expect(seen.allSatisfy { $0 == seen[0] })
  }

  @Test func a32BitProgramIsRefusedBeforeItStarts() throws {
    // An ELF header of class 1 (elf.h); no more of it is looked at.
    let header: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 1, 1, 1] + [UInt8](repeating: 0, count: 200)
    let program = folder / "old"
    #expect(FileManager.default.createFile(atPath: program, contents: Data(header), attributes: [.posixPermissions: 0o755]))
    let result = try record([program], to: output, in: folder.path)
    #expect(result.status == 126 && result.stderr.contains("32-bit program"), "\(result.stderr)")
    #expect(result.stderr.split(separator: "\n").count == 1 && !FileManager.default.fileExists(atPath: output))
  }

  @Test func programsThatEscapeAreNamed() throws {
    let fixed = try compileC("int main() { return 0; }", in: folder, name: "fixed", flags: ["-static"])
    let script = "\(fixed); \(fixed); exec 2>/dev/null; true"
    let result = try record(["sh", "-c", script], to: output, in: folder.path)
    #expect(result.status == 0)
    #expect(result.stderr.contains("started and not recorded: \(fixed)") && result.stderr.contains("started 2 times"), "\(result.stderr)")
    let trace = try RecordedTrace(output)
    let spot = trace.metadata.ledger?.blindSpots.first { $0.name.contains("statically linked") }
    #expect(spot?.count == 2 && spot?.remedy?.contains("--route syscalls") == true)
    // A trace without names does not name programs either.
    let hidden = try record(["sh", "-c", script], to: output, options: ["--anonymize", "--force"], in: folder.path)
    #expect(hidden.status == 0)
    let bytes = try Data(contentsOf: URL(fileURLWithPath: output))
    #expect(!bytes.contains(Data("fixed".utf8)))
  }

  @Test(.enabled(if: getuid() == 0, "needs root"))
  func aProgramInAnotherRootDirectoryIsNamedAndHearsNothingOfTheRecorder() throws {
    let fixed = try compileC("int main() { return 7; }", in: folder, name: "inner", flags: ["-static"])
    let program = try compileC(
      "#include <unistd.h>\nint main(int n, char **v) { if (chroot(v[1])) return 1; execl(\"/inner\", \"inner\", (char *)0); return 2; }",
      in: folder, name: "outer")
    _ = fixed
    let result = try record([program, folder.path], to: output)
    #expect(result.status == 7)
    #expect(result.stderr.contains("/inner (in another root directory") && !result.stderr.contains("ld.so"), "\(result.stderr)")
  }
}
