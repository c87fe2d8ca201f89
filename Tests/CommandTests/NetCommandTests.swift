import CTrace
import Foundation
import Testing
import TraceKit

/// Why a test with a real NBD server can't run here, or nil.
private func missing(_ program: String) -> String? { installed(program) == nil ? "\(program) is not installed" : nil }

/// Both commands of a replay over sockets, and real NBD servers.
@Suite struct NetCommandTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func write(_ name: String, _ operations: [TraceOperation], count: Int = 2000, sizeBytes: UInt64 = 4096, gap: Int64 = 1000) throws
    -> String
  {
    let writer = try TraceWriter(path: folder / name, metadata: TraceMetadata(source: "generated"))
    let file = writer.addFile(TraceFile(path: Array("/data/disk".utf8), kind: .regular))
    for i in 0..<count {
      let operation = operations[i % operations.count]
      let isTransfer = operation == .read || operation == .write || operation == .discard
      try writer.append(
        TraceEvent(
          startNanoseconds: Int64(i) * gap, operation: operation, file: file,
          offsetBytes: isTransfer ? UInt64(i * 37 % 256) * 4096 : TraceEvent.unknownOffset,
          sizeBytes: isTransfer ? sizeBytes : TraceEvent.unknownSize, latencyNanoseconds: 1000,
          result: operation == .read || operation == .write ? Int64(sizeBytes) : 0, processID: 1, threadID: 1))
    }
    try writer.finish()
    return folder / name
  }

  /// Starts the other end and returns it with the address that it announced.
  private func serve(_ trace: String, _ arguments: [String] = []) throws -> (server: StartedCommand, address: String) {
    let server = try StartedCommand(
      traceReplay, ["serve", trace, "--idle", "10s", "--json", folder / "serve.json", "--force"] + arguments)
    for _ in 0..<1000 {
      if let line = server.stderrSoFar.split(separator: "\n").first(where: { $0.contains("waiting at ") }),
        server.stderrSoFar.hasSuffix("\n")
      {
        return (server, String(line.split(separator: " ").last!))
      }
      usleep(10_000)
    }
    throw CocoaError(.fileReadUnknown, userInfo: ["serve said": server.stderrSoFar])
  }

  /// Waits until a server has a connection, for which it has a thread, and a while for requests to go there.
  private func waitForConnection(_ server: StartedCommand) {
    for _ in 0..<1000 {
      let threads = try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(server.processID)/task").count
      if threads ?? 0 > 1 { break }
      usleep(10_000)
    }
    usleep(500_000)
  }

  private func served() throws -> ServeReport {
    try JSONDecoder().decode(ServeReport.self, from: Data(contentsOf: URL(fileURLWithPath: folder / "serve.json")))
  }

  private func replay(_ trace: String, _ target: String, _ arguments: [String] = []) throws -> (CommandResult, ReplayReport?) {
    let result = try run(
      traceReplay, ["run", trace, "--target", target, "--speed", "max", "--json", folder / "r.json", "--force"] + arguments)
    return (result, try? ReportFile.report(folder / "r.json"))
  }

  @Test(arguments: [
    ["tcp", "write"], ["tcp", "read"], ["unix", "write"], ["unix", "read"], ["tcp6", "write"], ["tcp", "write", "--splice"],
    ["tcp", "read", "--splice"], ["unix", "write", "--splice"], ["tcp", "write", "--event-loop", "io_uring"],
    ["tcp", "read", "--event-loop", "io_uring"], ["tcp", "write", "--workers", "3"], ["tcp", "write", "--event-loop", "epoll"],
  ])
  func bothEndsHaveTheSameBytes(_ words: [String]) throws {
    let trace = try write("t", [words[1] == "read" ? .read : .write], sizeBytes: 5000)
    let place = words[0] == "unix" ? ["--unix", folder / "s"] : words[0] == "tcp6" ? ["--bind", "::1"] : []
    let isShared = words.contains("--workers")
    let (server, address) = try serve(trace, place + (isShared ? ["--connections", "3"] : []))
    let (result, report) = try replay(trace, address, Array(words.dropFirst(2)))
    let other = server.wait(timeoutSeconds: 30)
    #expect(result.status == 0, "\(result.stderr)")
    #expect(other.status == 0, "\(other.stderr)\(other.stdout)")
    let ours = try #require(report)
    let theirs = try served()
    #expect(ours.run.requests == 2000)
    #expect(ours.run.errors == 0 && ours.run.shortTransfers == 0 && !ours.run.partial)
    #expect(theirs.connections.reduce(0) { $0 + $1.bytes } == 10_000_000)
    #expect(theirs.connections.allSatisfy { $0.comparison == "equal at both ends" })
    guard !isShared else { return }
    let verb = words[1] == "read" ? "received" : "sent"
    #expect(ours.options["net-digest-\(verb)"] == theirs.connections.first?.digest)
    #expect(ours.options["net-comparison-\(verb)"] == "equal at both ends")
    #expect(ours.notes.contains { $0.contains("offsets") })
    let digest = try #require(theirs.connections.first?.digest)
    #expect(result.stdout.contains("\(verb) 10000000 bytes; digest \(digest), equal at both ends"), "\(result.stdout)")
  }

  @Test func aDuplexReplayHasAConnectionForEachDirection() throws {
    let trace = try write("t", [.read, .write, .fsync], count: 3000)
    let (server, address) = try serve(trace)
    let refused = try replay(trace, address)
    #expect(refused.0.status == 1 && refused.0.stderr.contains("--duplex"), "\(refused.0.stderr)")
    let (result, report) = try replay(trace, address, ["--duplex"])
    let other = server.wait(timeoutSeconds: 30)
    #expect(result.status == 0, "\(result.stderr)")
    #expect(other.status == 0, "\(other.stderr)\(other.stdout)")
    #expect(report?.run.bytesRead == 4_096_000)
    #expect(report?.run.bytesWritten == 4_096_000)
    #expect(report?.options["net-syncs-ignored"] == "1000")
    #expect(try served().connections.map(\.direction).sorted() == ["received", "sent"])
    #expect(try served().connections.allSatisfy { $0.comparison == "equal at both ends" })
  }

  @Test(arguments: ["write", "read"])
  func datagramsAreCountedAndTheEndIsRecognised(direction: String) throws {
    // Slowly enough that nothing is lost between two processes of one machine.
    let trace = try write("t", [direction == "read" ? .read : .write], count: 300, sizeBytes: 1000, gap: 100_000)
    let (server, address) = try serve(trace, ["--udp"])
    let result = try run(
      traceReplay, ["run", trace, "--target", address, "--timeout", "3s", "--json", folder / "r.json"])
    let other = server.wait(timeoutSeconds: 30)
    #expect(result.status == 0, "\(result.stderr)")
    #expect(other.status == 0, "\(other.stderr)\(other.stdout)")
    let report = try ReportFile.report(folder / "r.json")
    let row = try #require(try served().connections.first)
    #expect(report.run.requests == 300)
    #expect(row.datagrams == 300 && row.datagramsLost == 0)
    #expect(report.options["net-datagrams-lost"] == "0")
    #expect(report.options["net-comparison-\(direction == "read" ? "received" : "sent")"] == "equal at both ends")
  }

  @Test func aDatagramThatIsTooLargeIsAnErrorAndTheOthersGoOn() throws {
    let trace = try write("t", [.write], count: 4, sizeBytes: 65_507, gap: 100_000)
    let (server, address) = try serve(trace, ["--udp"])
    let (result, report) = try replay(trace, address)
    server.wait(timeoutSeconds: 30)
    #expect(result.stderr.isEmpty, "\(result.stderr)")
    #expect(report?.run.requests == 4)
    #expect(report?.errors.map(\.errno) == [EMSGSIZE])
    #expect(report?.run.errors == 4)
  }

  @Test func theReplayMayWaitForTheServer() throws {
    let trace = try write("t", [.write])
    let target = "unix:\(folder / "wait")"
    let replaying = try StartedCommand(
      traceReplay, ["run", trace, "--target", target, "--listen", "--speed", "max", "--json", folder / "r.json"])
    while !replaying.stderrSoFar.contains("waiting for the peer at \(target)") { usleep(10_000) }
    let other = try run(traceReplay, ["serve", trace, "--connect", target])
    let result = replaying.wait(timeoutSeconds: 30)
    #expect(result.status == 0, "\(result.stderr)")
    #expect(other.status == 0, "\(other.stderr)\(other.stdout)")
    #expect(other.stdout.contains("equal at both ends"))
    #expect(!FileManager.default.fileExists(atPath: folder / "wait"))
  }

  @Test(arguments: [SIGKILL, SIGSTOP])
  func aPeerThatVanishesOrFallsSilentLeavesAPartialReport(signal: Int32) throws {
    let trace = try write("t", [.write], count: 200_000, sizeBytes: 65_536, gap: 10)
    let (server, address) = try serve(trace)
    let replaying = try StartedCommand(
      traceReplay,
      ["run", trace, "--target", address, "--speed", "20000/s", "--timeout", "1s", "--json", folder / "r.json"])
    waitForConnection(server)
    kill(server.processID, signal)
    let result = replaying.wait(timeoutSeconds: 60)
    kill(server.processID, SIGKILL)
    server.wait(timeoutSeconds: 10)
    #expect(result.status == 1, "\(result.stderr)")
    #expect(result.stderr.contains(signal == SIGKILL ? "the peer closed the connection" : "--timeout"), "\(result.stderr)")
    #expect(result.stderr.split(separator: "\n").count == 1)
    let report = try ReportFile.report(folder / "r.json")
    #expect(report.run.partial && report.run.requests > 0 && report.run.requests < 200_000)
    #expect(report.text.contains("PARTIAL"))
  }

  @Test func strangersAreTurnedAwayAndAServerWithoutPeersStops() throws {
    let trace = try write("t", [.write])
    let (server, address) = try serve(trace, ["--allow", "10.0.0.0/8", "--idle", "4s"])
    let (result, _) = try replay(trace, address)
    let other = server.wait(timeoutSeconds: 30)
    #expect(result.status == 1)
    #expect(other.status == 1 && other.stderr.contains("nobody connected"), "\(other.stderr)")
    #expect(try served().refused > 0)
    #expect(try served().stopped == "idle")
  }

  @Test func moreThanTheTraceHasIsCutOff() throws {
    let trace = try write("t", [.write])
    let (server, address) = try serve(trace)
    let (result, report) = try replay(trace, address, ["--loops", "500"])
    let other = server.wait(timeoutSeconds: 30)
    #expect(other.status == 1 && other.stderr.contains("--bytes"), "\(other.stderr)")
    #expect(result.status == 1)
    #expect(report?.run.failure != nil)
  }

  // MARK: NBD

  /// Runs nbdkit on a Unix socket while `body` runs.
  private func withNBDKit(_ arguments: [String], _ body: (_ target: String) throws -> Void) throws {
    let socket = folder / "nbdkit.sock"
    let server = try StartedCommand("nbdkit", ["-f", "-U", socket] + arguments)
    defer {
      kill(server.processID, SIGTERM)
      server.wait(timeoutSeconds: 10)
      unlink(socket)
    }
    for _ in 0..<1000 where !FileManager.default.fileExists(atPath: socket) { usleep(10_000) }
    try #require(FileManager.default.fileExists(atPath: socket), "\(server.stderrSoFar)")
    try body("nbd+unix:///?socket=\(socket)")
  }

  private func blocks(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

  @Test(.enabled(if: missing("nbdkit") == nil, "nbdkit is not installed"), arguments: [[], ["--filter=fua"], ["--no-sr"]])
  func aReplayOnNbdkitWritesWhatAReplayOnAFileWrites(_ more: [String]) throws {
    let trace = try write("t", [.write, .read, .fsync, .write, .discard], count: 2500)
    let disk = folder / "disk"
    let file = folder / "file"
    for path in [disk, file] { FileManager.default.createFile(atPath: path, contents: Data(count: 2 << 20)) }
    try withNBDKit(more + ["file", disk] + (more == ["--filter=fua"] ? ["fuamode=native"] : [])) { target in
      let (refused, _) = try replay(trace, target)
      #expect(refused.status == 1 && refused.stderr.contains("--allow-writes"), "\(refused.stderr)")
      let untouched = try blocks(disk) == Data(count: 2 << 20)
      #expect(untouched)
      let (result, report) = try replay(trace, target, ["--allow-writes", "--order", "dependencies"])
      #expect(result.status == 0, "\(result.stderr)")
      #expect(report?.run.engine == "nbd")
      #expect(report?.run.requests == 2500)
      #expect(report?.run.errors == 0)
      #expect(report?.operations.map(\.operation) == ["read", "write", "fsync", "discard"])
      let local = try run(
        traceReplay, ["run", trace, "--target", file, "--speed", "max", "--allow-writes", "--order", "dependencies", "--workers", "1"])
      #expect(local.status == 0, "\(local.stderr)")
      let same = try blocks(disk) == blocks(file)
      #expect(same)
    }
  }

  @Test(.enabled(if: missing("nbdkit") == nil, "nbdkit is not installed"), arguments: ["epoll", "io_uring"])
  func manyRequestsAreInFlightAtASlowServer(loop: String) throws {
    let trace = try write("t", [.read], count: 640)
    try withNBDKit(["--filter=delay", "--threads", "64", "memory", "2M", "rdelay=20ms"]) { target in
      let (one, slow) = try replay(trace, target, ["--to", "0.00002", "--iodepth", "1", "--order", "depth", "--event-loop", loop])
      let (many, fast) = try replay(trace, target, ["--iodepth", "64", "--order", "depth", "--event-loop", loop])
      #expect(one.status == 0 && many.status == 0, "\(one.stderr)\(many.stderr)")
      #expect(slow?.run.requests == 20 && fast?.run.requests == 640)
      // Delays of 20 ms one after the other, and 64 side by side: counted, not timed.
      #expect(try #require(slow).run.elapsedNanoseconds >= 20 * 20_000_000)
      #expect(try #require(fast).fidelity.replayedInFlight > 8)
      #expect(try #require(fast).latency.service.histogram.minimum! >= 20_000_000)
    }
  }

  @Test(.enabled(if: missing("nbdkit") == nil, "nbdkit is not installed"))
  func errorsOfTheServerAreCountedAndRequestsLargerThanItsBlocksAreDivided() throws {
    let reading = try write("r", [.read], count: 100)
    try withNBDKit(["--filter=error", "memory", "2M", "error-pread=ENOSPC", "error-pread-rate=100%"]) { target in
      let (result, report) = try replay(reading, target)
      #expect(result.status == 0, "\(result.stderr)")
      #expect(report?.run.errors == 100)
      #expect(report?.errors.map(\.errno) == [ENOSPC])
    }
    let large = try write("l", [.write, .read], count: 8, sizeBytes: 1 << 20)
    try withNBDKit([
      "--filter=blocksize-policy", "memory", "4M", "blocksize-maximum=64K", "blocksize-preferred=64K", "blocksize-minimum=512",
    ]) { target in
      let (result, report) = try replay(large, target, ["--allow-writes"])
      #expect(result.status == 0, "\(result.stderr)")
      #expect(report?.run.errors == 0)
      #expect(report?.run.bytesRead == 4 << 20)
      #expect(report?.options["nbd-block-bytes"] == "512 to 65536")
    }
  }

  @Test(.enabled(if: missing("nbdkit") == nil, "nbdkit is not installed"), arguments: [SIGKILL, SIGSTOP])
  func aServerThatVanishesOrFallsSilentLeavesAPartialReport(signal: Int32) throws {
    let trace = try write("t", [.read], count: 100_000, gap: 100_000)
    let socket = folder / "nbdkit.sock"
    let server = try StartedCommand("nbdkit", ["-f", "-U", socket, "memory", "2M"])
    for _ in 0..<1000 where !FileManager.default.fileExists(atPath: socket) { usleep(10_000) }
    let replaying = try StartedCommand(
      traceReplay,
      ["run", trace, "--target", "nbd+unix:///?socket=\(socket)", "--timeout", "1s", "--json", folder / "r.json"])
    waitForConnection(server)
    kill(server.processID, signal)
    let result = replaying.wait(timeoutSeconds: 60)
    kill(server.processID, SIGKILL)
    server.wait(timeoutSeconds: 10)
    #expect(result.status == 1, "\(result.stderr)")
    #expect(result.stderr.contains(signal == SIGKILL ? "closed the connection" : "--timeout"), "\(result.stderr)")
    let report = try ReportFile.report(folder / "r.json")
    #expect(report.run.partial && report.run.requests > 0 && report.run.requests < 100_000)
  }

  @Test(.enabled(if: missing("qemu-nbd") == nil, "qemu-nbd is not installed"))
  func aReplayOnQemuWritesWhatAReplayOnAFileWrites() throws {
    let trace = try write("t", [.write, .read, .fsync, .write, .discard], count: 2500)
    let disk = folder / "disk"
    let file = folder / "file"
    for path in [disk, file] { FileManager.default.createFile(atPath: path, contents: Data(count: 2 << 20)) }
    let socket = folder / "qemu.sock"
    let server = try StartedCommand(
      "qemu-nbd", ["--format=raw", "--discard=unmap", "--socket=\(socket)", "--export-name=disk one", "--shared=2", "--persistent", disk])
    defer {
      kill(server.processID, SIGTERM)
      server.wait(timeoutSeconds: 10)
    }
    for _ in 0..<1000 where !FileManager.default.fileExists(atPath: socket) { usleep(10_000) }
    let (unknown, _) = try replay(trace, "nbd+unix:///other?socket=\(socket)", ["--allow-writes"])
    #expect(unknown.status == 1 && unknown.stderr.contains("no such export"), "\(unknown.stderr)")
    let (result, report) = try replay(
      trace, "nbd+unix:///disk%20one?socket=\(socket)", ["--allow-writes", "--order", "dependencies"])
    #expect(result.status == 0, "\(result.stderr)")
    #expect(report?.run.requests == 2500 && report?.run.errors == 0)
    #expect(report?.options["nbd-features"]?.contains("structured-replies") == true)
    let local = try run(
      traceReplay, ["run", trace, "--target", file, "--speed", "max", "--allow-writes", "--order", "dependencies", "--workers", "1"])
    #expect(local.status == 0, "\(local.stderr)")
    kill(server.processID, SIGTERM)
    server.wait(timeoutSeconds: 10)
    let same = try blocks(disk) == blocks(file)
    #expect(same)
  }

  @Test(.enabled(if: missing("nbdkit") == nil, "nbdkit is not installed"))
  func anExportOverTCPThatIsTooSmallIsRefused() throws {
    let trace = try write("t", [.read])
    let server = try StartedCommand("nbdkit", ["-f", "-i", "127.0.0.1", "-p", "10899", "memory", "64K"])
    defer {
      kill(server.processID, SIGTERM)
      server.wait(timeoutSeconds: 10)
    }
    var text = ""
    for _ in 0..<100 {
      text = try replay(trace, "nbd://127.0.0.1:10899/").0.stderr
      if !text.contains("no server listens") { break }
      usleep(20_000)
    }
    #expect(text.contains("too small") && text.contains("64.0 KiB"), "\(text)")
  }

  // MARK: Allocations

  /// As `ConformanceFaultTests` has it for engines of files.
  private func callsPerRequest(_ body: (_ count: Int, _ environment: [String: String]) throws -> Void) throws -> Double {
    let environment = ["LD_PRELOAD": try compileAllocationCounter(in: folder), "MALLOC_COUNT": folder / "count"]
    func calls(_ count: Int) throws -> Int {
      try body(count, environment)
      return Int(try String(contentsOfFile: folder / "count", encoding: .utf8))!
    }
    return Double(try calls(60_000) - calls(30_000)) / 30_000
  }

  @Test(
    .enabled(if: ReleaseBuild.traceReplay != nil, "no release build of these sources; 'make test' makes one"),
    arguments: [("tcp", "write"), ("tcp", "read"), ("unix", "write"), ("udp", "write")])
  func noAllocationPerRequestOfAStream(kind: String, direction: String) throws {
    let perRequest = try callsPerRequest { count, environment in
      let trace = try write("t\(count)", [direction == "read" ? .read : .write], count: count, sizeBytes: 512)
      let place = kind == "unix" ? ["--unix", folder / "s"] : kind == "udp" ? ["--udp"] : []
      let (server, address) = try serve(trace, place)
      let result = try run(ReleaseBuild.traceReplay!, ["run", trace, "--target", address, "--speed", "max"], environment: environment)
      server.wait(timeoutSeconds: 30)
      try #require(result.status == 0, "\(result.stderr)")
    }
    #expect(perRequest < 0.05, "\(perRequest) calls of malloc per request")
  }

  @Test(
    .enabled(if: ReleaseBuild.traceReplay != nil, "no release build of these sources; 'make test' makes one"),
    .enabled(if: missing("nbdkit") == nil, "nbdkit is not installed"))
  func noAllocationPerRequestOfAnExport() throws {
    try withNBDKit(["memory", "2M"]) { target in
      let perRequest = try callsPerRequest { count, environment in
        let trace = try write("t\(count)", [.read, .write], count: count)
        let result = try run(
          ReleaseBuild.traceReplay!,
          ["run", trace, "--target", target, "--allow-writes", "--speed", "max", "--order", "depth", "--iodepth", "16"],
          environment: environment)
        try #require(result.status == 0, "\(result.stderr)")
      }
      #expect(perRequest < 0.05, "\(perRequest) calls of malloc per request")
    }
  }
}
