import CTrace
import Foundation
import Testing

@testable import TraceKit

/// The same faults in every engine: the same counts of errors, and never a hang, a crash or a completion that gets lost.
@Suite(.serialized) struct ConformanceFaultTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func outcome(_ trace: String, _ engine: String, _ target: String, _ change: (inout ReplayOptions) -> Void = { _ in }) throws
    -> ReplayOutcome
  {
    var options = ReplayOptions()
    options.engine = engine
    options.speed = .maximum
    options.order = .dependencies
    options.targets.target = target
    options.targets.allowWrites = true
    change(&options)
    return ReplayOutcome(try Replayer(tracePath: trace, options: options).run(), folder: nil)
  }

  private func file(_ name: String, _ bytes: Int) throws -> String {
    let descriptor = open(folder / name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    defer { close(descriptor) }
    ftruncate(descriptor, bytes)
    return folder / name
  }

  @Test func aFileThatIsTruncatedAfterItWasOpenedGivesShortReads() throws {
    let trace = try conformanceTrace(
      folder / "t", files: ["/a"],
      events: (0..<200).map { request($0 % 4 == 3 ? .write : .read, $0, offset: $0 % 4 == 3 ? UInt64($0) : UInt64($0) * 1000, size: 1500) })
    var outcomes: [String: ReplayOutcome] = [:]
    for engine in ConformanceEngines.runnable {
      let target = try file("target", 250_000)
      outcomes[engine] = try outcome(trace, engine, target) { $0.beforeRun = { _ in truncate(target, 100_100) } }
    }
    let expected = try #require(outcomes["sync"])
    #expect(expected.operations["read"]!.shortTransfers > 50)
    #expect(expected.operations["read"]!.requests == 150)
    for (engine, found) in outcomes { #expect(found == expected, "\(engine)") }
  }

  @Test func aFileThatIsRemovedAfterItWasOpenedChangesNothing() throws {
    let trace = try conformanceTrace(
      folder / "t", files: ["/a"],
      events: (0..<200).map { request($0 % 2 == 0 ? .write : .read, $0, offset: UInt64($0 / 2) * 1000, size: 1000) })
    for engine in ConformanceEngines.runnable {
      let target = try file("target", 0)
      let found = try outcome(trace, engine, target) { $0.beforeRun = { _ in unlink(target) } }
      #expect(found.errors.isEmpty, "\(engine)")
      #expect(found.operations["read"] == ReplayOutcome.Count(requests: 100, bytes: 100_000, errors: 0, shortTransfers: 0), "\(engine)")
      #expect(found.operations["write"] == ReplayOutcome.Count(requests: 100, bytes: 100_000, errors: 0, shortTransfers: 0), "\(engine)")
    }
  }

  @Test func aFullFilesystemFailsTheSameWrites() throws {
    let mountPoint = folder / "small"
    try FileManager.default.createDirectory(atPath: mountPoint, withIntermediateDirectories: true)
    guard geteuid() == 0, try run("mount", ["-t", "tmpfs", "-o", "size=1m", "none", mountPoint]).status == 0 else {
      print("conformance: no ENOSPC, since a small tmpfs cannot be mounted")
      return
    }
    defer { _ = try? run("umount", ["-l", mountPoint]) }
    let trace = try conformanceTrace(
      folder / "t", files: ["/a"], events: (0..<400).map { request(.write, $0, offset: UInt64($0) * 4096, size: 4096) })
    var outcomes: [String: ReplayOutcome] = [:]
    for engine in ConformanceEngines.runnable {
      _ = FileManager.default.createFile(atPath: mountPoint + "/f", contents: Data())
      outcomes[engine] = try outcome(trace, engine, mountPoint + "/f") { $0.workers = 1 }
      // Workers of tests that run at the same time have copies of this process's descriptors: the space goes by truncation.
      truncate(mountPoint + "/f", 0)
      unlink(mountPoint + "/f")
    }
    let expected = try #require(outcomes["sync"])
    #expect(expected.errors == ["write \(ENOSPC)": 144])
    for (engine, found) in outcomes { #expect(found == expected, "\(engine)") }
  }

  @Test func anUnreadableRangeFailsTheSameReads() throws {
    let mountPoint = folder / "fuse"
    try FileManager.default.createDirectory(atPath: mountPoint, withIntermediateDirectories: true)
    guard geteuid() == 0, FileManager.default.fileExists(atPath: "/dev/fuse") else {
      print("conformance: no EIO, since there is no /dev/fuse to mount")
      return
    }
    let server = try compileC(faultyFilesystem, in: folder, name: "faulty")
    let started = try StartedCommand(server, [mountPoint, "1048576", "262144", "65536"])
    defer {
      _ = try? run("umount", ["-l", mountPoint])
      kill(started.processID, SIGKILL)
      _ = started.wait(timeoutSeconds: 10)
    }
    for _ in 0..<200 where !FileManager.default.fileExists(atPath: mountPoint + "/f") { usleep(20_000) }
    try #require(FileManager.default.fileExists(atPath: mountPoint + "/f"), "the FUSE filesystem is not there: \(started.stderrSoFar)")
    let trace = try conformanceTrace(
      folder / "t", files: ["/a"], events: (0..<256).map { request(.read, $0, offset: UInt64($0) * 4096, size: 4096) })
    var outcomes: [String: ReplayOutcome] = [:]
    for engine in ConformanceEngines.runnable { outcomes[engine] = try outcome(trace, engine, mountPoint + "/f") }
    let expected = try #require(outcomes["sync"])
    #expect(expected.errors == ["read \(EIO)": 16])
    #expect(expected.operations["read"]!.bytes == 240 * 4096)
    for (engine, found) in outcomes { #expect(found == expected, "\(engine)") }
  }

  /// A timer's signal, without SA_RESTART, interrupts whatever waits.
  @Test(arguments: ConformanceEngines.runnable)
  func aStormOfSignalsLosesNothing(engine: String) throws {
    let storm = try compileC(
      """
      #include <signal.h>
      #include <sys/time.h>
      static void nothing(int s) { (void)s; }
      __attribute__((constructor)) static void begin(void) {
        struct sigaction action = {.sa_handler = nothing};
        sigaction(SIGALRM, &action, 0);
        struct itimerval often = {{0, 300}, {0, 300}};
        setitimer(ITIMER_REAL, &often, 0);
      }
      """, in: folder, name: "storm.so", flags: ["-shared", "-fPIC"])
    let trace = try conformanceTrace(
      folder / "t", files: ["/a", "/b"],
      events: (0..<3000).map { i in
        i % 500 == 499
          ? request(.fsync, i, file: UInt32(i % 2))
          : request(i % 3 == 0 ? .write : .read, i, file: UInt32(i % 2), offset: UInt64(i % 300) * 5000, size: 20_000, thread: Int32(i % 2))
      })
    for speed in ["max", "20000/s"] {
      let result = try run(
        traceReplay, ["run", trace, "--engine", engine, "--speed", speed, "--verify", "--json", folder / "r.json", "--force"],
        environment: ["LD_PRELOAD": storm, "TMPDIR": folder.path], timeoutSeconds: 120)
      #expect(result.status == 0, "\(engine): \(result.stderr)")
      let report = try ReportFile.report(folder / "r.json")
      #expect(report.run.requests == 3000, "\(engine)")
      #expect(report.run.errors == 0 && report.run.shortTransfers == 0, "\(engine)")
      #expect(report.verification?.isClean == true, "\(engine)")
    }
  }

  @Test(arguments: ConformanceEngines.runnable)
  func tooFewDescriptorsAreOneSentence(engine: String) throws {
    let trace = try conformanceTrace(
      folder / "t", files: (0..<200).map { "/f\($0)" }, events: (0..<200).map { request(.write, $0, file: UInt32($0), size: 512) })
    let result = try run(
      "/bin/sh", ["-c", "ulimit -n 100; exec \"$@\"", "sh", traceReplay, "run", trace, "--engine", engine, "--speed", "max"],
      environment: ["TMPDIR": folder.path])
    #expect(result.status == 1, "\(engine): \(result.stderr)")
    #expect(result.stderr.contains("ulimit -n"), "\(engine): \(result.stderr)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).allSatisfy { !$0.hasPrefix("trace-replay") })
  }

  // MARK: Memory

  /// Twice the requests take no more calls of malloc but those of decoding, a few per hundred requests. Only a release build is
  /// specialised for its engine.
  @Test(
    .enabled(if: ReleaseBuild.traceReplay != nil, "no release build of these sources; 'make test' makes one"),
    arguments: EngineRegistry.entries.filter { $0.unavailability() == nil && ($0.worksOnFiles || $0.name == "null") }.map(
      \.name))
  func noAllocationPerRequest(engine: String) throws {
    let counter = try compileAllocationCounter(in: folder)
    let requests = 30_000
    func calls(_ count: Int, _ more: [String]) throws -> Int {
      let trace = try conformanceTrace(
        folder / "t\(count)", files: ["/a"],
        events: (0..<count).map { request($0 % 2 == 0 ? .write : .read, $0, offset: UInt64($0 % 100) * 4096, size: 4096) })
      let result = try run(
        ReleaseBuild.traceReplay!, ["run", trace, "--engine", engine, "--speed", "max", "--order", "depth"] + more,
        environment: ["LD_PRELOAD": counter, "MALLOC_COUNT": folder / "count", "TMPDIR": folder.path])
      try #require(result.status == 0, "\(engine): \(result.stderr)")
      return Int(try String(contentsOfFile: folder / "count", encoding: .utf8))!
    }
    var ways: [[String]] = [[]]
    if engine != "null" { ways.append(["--verify"]) }
    for more in ways {
      let perRequest = Double(try calls(2 * requests, more) - calls(requests, more)) / Double(requests)
      #expect(perRequest < 0.05, "\(engine) \(more): \(perRequest) calls of malloc per request")
    }
  }
}

/// A filesystem over /dev/fuse with one file, `f`, that reads as zeros and fails with EIO in one range: MOUNTPOINT SIZE START LENGTH.
private let faultyFilesystem = """
  #include <errno.h>
  #include <fcntl.h>
  #include <linux/fuse.h>
  #include <stdint.h>
  #include <stdio.h>
  #include <stdlib.h>
  #include <string.h>
  #include <sys/mount.h>
  #include <sys/stat.h>
  #include <unistd.h>
  static int device;
  static uint64_t size, bad, bad_length;
  static char request[1 << 18], answer[1 << 18];
  static void reply(uint64_t unique, int error, const void *data, size_t length) {
    struct fuse_out_header *out = (void *)answer;
    out->unique = unique;
    out->error = -error;
    out->len = sizeof *out + (error ? 0 : length);
    if (!error && length && data != answer + sizeof *out) memcpy(answer + sizeof *out, data, length);
    if (write(device, answer, out->len) < 0 && errno != ENOENT) perror("write");
  }
  static void attributes(struct fuse_attr *a, uint64_t node) {
    memset(a, 0, sizeof *a);
    a->ino = node;
    a->mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0644;
    a->nlink = 1;
    a->size = node == 1 ? 0 : size;
    a->blksize = 4096;
  }
  int main(int count, char **arguments) {
    if (count != 5) return 2;
    size = strtoull(arguments[2], 0, 10), bad = strtoull(arguments[3], 0, 10), bad_length = strtoull(arguments[4], 0, 10);
    device = open("/dev/fuse", O_RDWR);
    char options[100];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    if (device < 0 || mount("faulty", arguments[1], "fuse", MS_NOSUID | MS_NODEV, options)) { perror("mount"); return 1; }
    for (;;) {
      ssize_t length = read(device, request, sizeof request);
      if (length < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
      if (length <= 0) return 0;
      struct fuse_in_header *in = (void *)request;
      void *body = in + 1;
      switch (in->opcode) {
      case FUSE_INIT: {
        struct fuse_init_in *wanted = body;
        struct fuse_init_out out = {.major = 7, .minor = wanted->minor < 31 ? wanted->minor : 31, .max_readahead = wanted->max_readahead,
          .max_write = 65536, .max_background = 16, .congestion_threshold = 12};
        reply(in->unique, 0, &out, sizeof out);
        break;
      }
      case FUSE_LOOKUP: {
        struct fuse_entry_out out = {.nodeid = 2, .attr_valid = 3600, .entry_valid = 3600};
        attributes(&out.attr, 2);
        reply(in->unique, strcmp(body, "f") ? ENOENT : 0, &out, sizeof out);
        break;
      }
      case FUSE_GETATTR: case FUSE_SETATTR: {
        struct fuse_attr_out out = {.attr_valid = 3600};
        attributes(&out.attr, in->nodeid);
        reply(in->unique, 0, &out, sizeof out);
        break;
      }
      case FUSE_OPEN: case FUSE_OPENDIR: {
        struct fuse_open_out out = {.fh = 1};
        reply(in->unique, 0, &out, sizeof out);
        break;
      }
      case FUSE_READ: {
        struct fuse_read_in *r = body;
        uint64_t end = r->offset + r->size < size ? r->offset + r->size : size;
        uint64_t bytes = r->offset < end ? end - r->offset : 0;
        memset(answer + sizeof(struct fuse_out_header), 0, bytes);
        reply(in->unique, r->offset < bad + bad_length && bad < end ? EIO : 0, answer + sizeof(struct fuse_out_header), bytes);
        break;
      }
      case FUSE_STATFS: {
        struct fuse_statfs_out out = {.st = {.blocks = 1000, .bsize = 4096, .namelen = 255, .frsize = 4096}};
        reply(in->unique, 0, &out, sizeof out);
        break;
      }
      case FUSE_RELEASE: case FUSE_RELEASEDIR: case FUSE_FLUSH: case FUSE_FSYNC: case FUSE_ACCESS:
        reply(in->unique, 0, 0, 0);
        break;
      case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT: break;
      default: reply(in->unique, ENOSYS, 0, 0);
      }
    }
  }
  """
