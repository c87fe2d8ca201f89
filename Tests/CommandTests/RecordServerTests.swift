import Foundation
import Testing
import TraceKit

/// A server under load, recorded from its start, against its own counters.
@Suite(.enabled(if: installed("redis-server") != nil && installed("redis-benchmark") != nil, "redis is not installed"))
struct RecordServerTests {
  @Test func redisCountsWhatWasRecorded() throws {
    let folder = try TemporaryFolder()
    let output = folder / "redis.iotrace"
    let socket = folder / "redis.sock"
    let server = try StartedCommand(
      traceRecord,
      [
        "run", "--no-calibration", "-o", output, "--", "redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder.path,
        "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no",
      ])
    var information = ""
    for _ in 0..<600 where !information.contains("PONG") {
      usleep(50_000)
      information = (try? run("redis-cli", ["-s", socket, "ping"]).stdout) ?? ""
    }
    #expect(try run("redis-benchmark", ["-s", socket, "-n", "3000", "-c", "8", "-d", "100", "-t", "set", "-q"]).status == 0)
    information = try run("redis-cli", ["-s", socket, "info", "stats"]).stdout
    try run("redis-cli", ["-s", socket, "shutdown", "nosave"])
    let result = server.wait()
    #expect(result.status == 0, "\(result.stderr)")
    let trace = try RecordedTrace(output)
    #expect(trace.gaps.isEmpty && trace.totals?.lossless == true)
    // What was appended is the file, byte for byte, and was made durable.
    let name = try #require(
      try FileManager.default.subpathsOfDirectory(atPath: folder.path).first { $0.hasSuffix(".incr.aof") || $0.hasSuffix("appendonly.aof") }
    )
    let size = try #require(try FileManager.default.attributesOfItem(atPath: folder / name)[.size] as? UInt64)
    let appended = trace.events(.write, name.split(separator: "/").last.map(String.init) ?? name)
    #expect(appended.reduce(0) { $0 + UInt64(max(0, $1.result)) } == size)
    #expect(trace.events(.fdatasync).count + trace.events(.fsync).count >= appended.count)
    // Of what the clients sent, all that the server had counted by then, and the few bytes that came after.
    let line = information.split(whereSeparator: \.isNewline).first { $0.hasPrefix("total_net_input_bytes:") }
    let counted = try #require(line.flatMap { UInt64($0.split(separator: ":")[1]) })
    let received = trace.events.filter {
      ($0.operation == .read || $0.operation == .receive) && $0.fileIfKnown.map { trace.files[Int($0)].kind == .socket } == true
    }.reduce(UInt64(0)) { $0 + UInt64(max(0, $1.result)) }
    #expect(received >= counted && received <= counted + 200, "\(received) received, \(counted) counted")
  }
}
