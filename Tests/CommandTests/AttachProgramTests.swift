import CTrace
import Foundation
import Testing
import TraceKit

/// `trace-record attach` on real servers and tools: events against their own or the kernel's counters.
@Suite(.serialized, .enabled(if: tracingIsPossible, "tracing needs root and a kernel with tracefs"))
struct AttachProgramTests {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    // Servers run as users of their own.
    chmod(folder.path, 0o755)
  }

  private static let postgres: String? = {
    let base = "/usr/lib/postgresql"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: base)) ?? []
    let folders = names.sorted().map { name in base + "/" + name + "/bin" }
    return folders.last { folder in access(folder + "/initdb", X_OK) == 0 }
  }()

  /// Recorded and counted bytes are the same.
  /// - Parameter slackBytes: what the program may read on its own account between the end of the recording and the look at the
  ///   kernel's counter.
  private func expectEqualBytes(_ output: String, slackBytes: Int = 0) throws {
    let information = try information(output)
    let (read, kernelRead) = (try figure(information, "recorded_read_bytes"), try figure(information, "kernel_read_bytes"))
    #expect(read <= kernelRead && kernelRead - read <= slackBytes, "recorded \(read), by the kernel \(kernelRead)")
    #expect(try figure(information, "recorded_written_bytes") == figure(information, "kernel_written_bytes"))
    #expect(try figure(information, "kernel_events_lost") == 0)
  }

  /// A shell that waits for `go` and becomes `command`: attached to before, followed through the exec.
  private func startWaiting(_ command: String) throws -> StartedCommand {
    try StartedCommand("sh", ["-c", "while [ ! -e go ]; do sleep 0.02; done; exec \(command)"], in: folder.path)
  }

  private func attach(_ program: StartedCommand, _ output: String, by route: String = "auto") throws -> RunningRecorder {
    try RunningRecorder(["attach", "--no-calibration", "--route", route, "-o", output, "--pid", "\(program.processID)"])
  }

  @Test(
    .enabled(if: postgres != nil, "postgresql is not installed"), .enabled(if: installed("pgbench") != nil, "pgbench is not installed"),
    .enabled(if: installed("setpriv") != nil, "setpriv is not installed"))
  func postgresUnderPgbench() throws {
    let programs = try #require(Self.postgres)
    let account = try #require(getpwnam("postgres"), "there is no user postgres")
    let data = folder / "pg"
    try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
    chown(data, account.pointee.pw_uid, account.pointee.pw_gid)
    func asServer(_ words: [String]) throws -> CommandResult {
      try run("setpriv", ["--reuid=postgres", "--regid=postgres", "--clear-groups"] + words, in: data)
    }
    let made = try asServer(["\(programs)/initdb", "-D", "\(data)/d", "-A", "trust", "--no-sync"])
    try #require(made.status == 0, "\(made.stderr)")
    let server = ["-D", "\(data)/d", "-o", "-c listen_addresses='' -k \(data)", "-l", "\(data)/log", "-w"]
    try #require(try asServer(["\(programs)/pg_ctl"] + server + ["start"]).status == 0)
    defer { _ = try? asServer(["\(programs)/pg_ctl", "-D", "\(data)/d", "-m", "immediate", "-w", "stop"]) }
    #expect(try asServer(["pgbench", "-i", "-q", "-h", data, "postgres"]).status == 0)
    let lock = try String(contentsOfFile: "\(data)/d/postmaster.pid", encoding: .utf8)
    let postmaster = try #require(lock.split(separator: "\n").first)
    let output = folder / "t.iotrace"
    let recorder = try RunningRecorder(["attach", "--no-calibration", "-o", output, "--pid", "\(postmaster)"])
    let benchmark = try asServer(["pgbench", "-c", "2", "-T", "2", "-h", data, "postgres"])
    #expect(benchmark.status == 0, "\(benchmark.stderr)")
    usleep(300_000)
    #expect(recorder.stop().status == 0)
    let trace = try RecordedTrace(output)
    // Backends that began after the attach write the log, and the log is made safe.
    #expect(trace.events(.write).contains { trace.path($0).contains("/pg_wal/") })
    #expect(!trace.events(.fdatasync).isEmpty && trace.totals?.lossless == true)
    try expectEqualBytes(output)
  }

  @Test(
    .enabled(if: installed("redis-server") != nil, "redis-server is not installed"),
    .enabled(if: installed("redis-benchmark") != nil, "redis-benchmark is not installed"))
  func redisThatSyncsAlways() throws {
    let socket = folder / "s"
    let server = try StartedCommand(
      "redis-server",
      ["--port", "0", "--unixsocket", socket, "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", folder.path])
    defer {
      kill(server.processID, SIGKILL)
      _ = server.wait()
    }
    #expect(eventually { access(socket, F_OK) == 0 })
    usleep(300_000)
    let output = folder / "t.iotrace"
    let recorder = try attach(server, output)
    #expect(try run("redis-benchmark", ["-s", socket, "-t", "set", "-n", "2000", "-c", "4", "-q"]).status == 0)
    usleep(200_000)
    #expect(recorder.stop().status == 0)
    let trace = try RecordedTrace(output)
    let log = trace.events(.write).filter { trace.path($0).contains("appendonly") }
    let synced = trace.events(.fdatasync).filter { trace.path($0).contains("appendonly") }
    #expect(!log.isEmpty && !synced.isEmpty && synced.count <= 2001)
    // Every appended record begins where the one before ended.
    let isContinuous = zip(log, log.dropFirst()).allSatisfy { $0.offsetBytes + UInt64($0.result) == $1.offsetBytes }
    #expect(isContinuous)
    // Ten times a second the server reads its own /proc/self/stat.
    try expectEqualBytes(output, slackBytes: 2048)
  }

  @Test(.enabled(if: installed("sqlite3") != nil, "sqlite3 is not installed"))
  func sqliteIsFollowedThroughExec() throws {
    try folder.write(
      "script",
      "PRAGMA synchronous=FULL; CREATE TABLE t(a,b);\n" + (0..<50).map { "INSERT INTO t VALUES(\($0),hex(randomblob(500)));\n" }.joined())
    let program = try startWaiting("sqlite3 db.sqlite < script")
    usleep(100_000)
    let output = folder / "t.iotrace"
    let recorder = try attach(program, output)
    try folder.write("go", "")
    #expect(program.wait().status == 0)
    #expect(recorder.command.wait().status == 0)
    let trace = try RecordedTrace(output)
    let size = try #require(try FileManager.default.attributesOfItem(atPath: folder / "db.sqlite")[.size] as? Int)
    let pages = trace.events(.write, "/db.sqlite").map { $0.offsetBytes + $0.sizeBytes }.max()
    #expect(pages == UInt64(size))
    // A commit makes the journal safe, then the database.
    #expect(trace.events(.fdatasync).count + trace.events(.fsync).count >= 51 * 2)
  }

  @Test(.enabled(if: installed("busybox") != nil, "busybox is not installed"))
  func aStaticBinaryIsSeenAsAnyOther() throws {
    try folder.write("in", String(repeating: "0123456789abcdef", count: 25_600))
    let program = try startWaiting("busybox dd if=in of=out bs=4096 2>/dev/null")
    usleep(100_000)
    let output = folder / "t.iotrace"
    let recorder = try attach(program, output)
    try folder.write("go", "")
    #expect(program.wait().status == 0)
    #expect(recorder.command.wait().status == 0)
    let trace = try RecordedTrace(output)
    for (operation, name) in [(TraceOperation.read, "/in"), (.write, "/out")] {
      // dd may end before its output's name could be read; its transfers are there all the same.
      let events = trace.events(operation).filter { $0.sizeBytes == 4096 && $0.result == 4096 }
      #expect(events.count == 100, "\(name)")
      let offsets = events.compactMap(\.offsetIfKnown)
      #expect(offsets == offsets.sorted())
    }
  }

  @Test(.enabled(if: installed("fio") != nil, "fio is not installed"), arguments: ["io_uring", "libaio", "psync"], callRoutes)
  func fioCountsTheSame(engine: String, route: String) throws {
    let job =
      "fio --name=x --filename=\(folder / "data") --rw=randrw --bs=4k --size=8m --number_ios=1500 --iodepth=8 --ioengine=\(engine)"
      + " --output-format=json --output=fio.json --thread --fallocate=none"
    // Laid out before, so that only the job's own requests follow.
    #expect(try run("sh", ["-c", "\(job) --create_only=1"], in: folder.path).status == 0)
    let program = try startWaiting(job)
    usleep(100_000)
    let output = folder / "t.iotrace"
    let recorder = try attach(program, output, by: route)
    try folder.write("go", "")
    #expect(program.wait().status == 0)
    #expect(recorder.command.wait().status == 0)
    let text = try String(contentsOfFile: folder / "fio.json", encoding: .utf8)
    let json = try JSONSerialization.jsonObject(with: Data(text[(text.firstIndex(of: "{") ?? text.startIndex)...].utf8)) as? [String: Any]
    let first = try #require((json?["jobs"] as? [[String: Any]])?.first)
    let (reads, writes) = (try total(first, "read"), try total(first, "write"))
    let information = try information(output)
    let trace = try RecordedTrace(output)
    switch engine {
    case "io_uring":
      #expect(try figure(information, "io_uring_completions") == reads + writes)
      let requests = trace.events.filter { $0.flags.contains(.asynchronous) }
      #expect(requests.count { $0.operation == .read } == reads && requests.count { $0.operation == .write } == writes)
      #expect(requests.allSatisfy { $0.result == 4096 && $0.latencyNanoseconds > 0 && trace.path($0).hasSuffix("/data") })
      guard route == "bpf" else { break }
      // Each block of the file once, as --rw=randrw without --norandommap goes, and by the sizes that were asked for.
      let offsets = Set(requests.compactMap(\.offsetIfKnown))
      #expect(offsets.count == requests.count && offsets.allSatisfy { $0 % 4096 == 0 && $0 < 8 << 20 })
      #expect(requests.allSatisfy { $0.sizeIfKnown == 4096 })
      #expect(try figure(information, "io_uring_without_offset") == 0)
    case "libaio":
      #expect(try figure(information, "aio_submitted") == reads + writes)
      #expect(try figure(information, "aio_completed") == reads + writes)
      guard route == "bpf" else { break }
      let requests = trace.events.filter { $0.flags.contains(.asynchronous) }
      #expect(requests.count { $0.operation == .read } == reads && requests.count { $0.operation == .write } == writes)
      #expect(requests.allSatisfy { $0.result == 4096 && $0.sizeIfKnown == 4096 && trace.path($0).hasSuffix("/data") })
      #expect(Set(requests.compactMap(\.offsetIfKnown)).count == requests.count)
    default:
      #expect(trace.events(.read, "/data").count == reads && trace.events(.write, "/data").count == writes)
      #expect(trace.events(.write, "/data").allSatisfy { $0.offsetIfKnown != nil && $0.result == 4096 })
    }
  }

  private func total(_ job: [String: Any], _ side: String) throws -> Int {
    try #require((job[side] as? [String: Any])?["total_ios"] as? Int)
  }
}
