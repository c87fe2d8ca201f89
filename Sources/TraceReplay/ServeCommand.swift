import ArgumentParser
import Glibc
import TraceKit

/// `trace-replay serve`.
struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Be the other end of a replay over sockets: receive what a trace writes, send what it reads.",
    discussion: """
      Listens on the machine itself unless --bind names another address, and says where on standard error. Stops after its \
      connections, or when nobody comes or nothing moves for the idle time. Both ends compare digests of what was sent and received.
      """)

  @Argument(help: "The trace that the peer replays.") var trace: String
  @Option(help: "Address to listen on; needs --allow for peers of other machines.") var bind = "127.0.0.1"
  @Option(help: "Port to listen on; 0 for one that the system chooses.") var port: UInt16 = 0
  @Flag(help: "UDP in place of TCP.") var udp = false
  @Option(help: "A Unix socket to listen on in place of an address.") var unix: String?
  @Option(help: "Connect to this address, where a replay with --listen waits: tcp://host:port, udp://host:port, unix:/path.")
  var connect: String?
  @Option(
    help: ArgumentHelp("Peers that may connect, as an address or address/length; repeatable (default: this machine).", valueName: "from"))
  var allow: [String] = []
  @Option(help: "Stop after this many connections (default: 1, or 2 for a trace that reads and writes).") var connections: Int?
  @Option(help: "Most bytes per connection (default: what the trace has).") var bytes: UInt64?
  @Option(help: "Stop when nobody connects, or nothing moves, for this long.", transform: parseDuration) var idle: Int64 = 60_000_000_000
  @Flag(inversion: .prefixedNo, help: "Compute digests and compare them with the peer's.") var digest = true
  @Option(help: "Only requests that start this long after the first event or later.", transform: parseDuration) var from: Int64?
  @Option(help: "Only requests that start before this.", transform: parseDuration) var to: Int64?
  @Option(help: "Only one kind: read or write.", transform: parseKind) var only: IOOperation.Kind?
  @Option(help: ArgumentHelp("Only files whose recorded path matches; repeatable.", valueName: "glob")) var file: [String] = []
  @Option(help: "How often the peer replays the trace.") var loops = 1
  @Option(help: "Write the report as JSON; - is standard output, in place of the text.") var json: String?
  @Flag(help: "Replace an existing report file.") var force = false

  func validate() throws {
    if let connections, connections < 1 || connections > ServeOptions.maximumConnections {
      throw ValidationError("--connections \(connections): 1 to \(ServeOptions.maximumConnections)")
    }
    for text in allow where AddressPrefix(text) == nil {
      throw ValidationError("--allow \(PrintableText.escaped(text)): an address as numbers, or address/length, as in 10.0.0.0/8")
    }
    if idle <= 0 { throw ValidationError("--idle: longer than nothing") }
    if loops < 1 || loops > 1_000_000 { throw ValidationError("--loops \(loops): 1 to 1000000") }
    if [udp, unix != nil, connect != nil].count(where: { $0 }) > 1 {
      throw ValidationError("--udp, --unix and --connect: one of them")
    }
  }

  func run() throws {
    StopSignal.install()
    if let json { try ReportFile.check(json, overwrite: force) }
    let server = try StreamServer(tracePath: trace, options: options())
    let report = try server.run { TraceReplay.complain("waiting at \($0)") }
    if let json { try ReportFile.write(ReportFile.json(report), to: json, overwrite: force) }
    if json != "-" { print(report.text, terminator: "") }
    if StopSignal.received != 0 { Glibc.exit(128 + StopSignal.received) }
    if !report.isComplete {
      let reason = report.connections.compactMap(\.failure).first ?? "nobody connected"
      throw TraceReplay.Failure(status: 1, message: reason)
    }
  }

  private func options() throws -> ServeOptions {
    var options = ServeOptions()
    if let connect {
      options.address = try NetAddress(connect)
      options.connects = true
    } else if let unix {
      options.address = try NetAddress("unix:\(unix)")
    } else {
      options.address = NetAddress(transport: udp ? .udp(host: bind, port: port) : .tcp(host: bind, port: port))
    }
    options.allowed = allow.compactMap { AddressPrefix($0) }
    options.connections = connections
    options.limitBytes = bytes
    options.idleNanoseconds = idle
    options.computesDigests = digest
    options.replay.fromNanoseconds = from
    options.replay.toNanoseconds = to
    options.replay.only = only
    options.replay.fileGlobs = file
    options.replay.loops = loops
    return options
  }
}
