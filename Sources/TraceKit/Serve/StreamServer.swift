import CTrace
import Glibc

/// The other end of the net engine: what a trace writes it receives, what the trace reads it sends. It stops by itself.
public final class StreamServer {
  private let options: ServeOptions
  private let reader: TraceReader
  private let tracePath: String
  private let survey: TraceSurvey
  private let builder: RequestBuilder
  private let filter: EventFilter
  private let limit: Int
  private let shared: ServerShared
  private var report: ServeReport

  /// Reads the trace once, for what it will send and receive.
  public init(tracePath: String, options: ServeOptions) throws(TraceError) {
    self.tracePath = tracePath
    self.options = options
    if options.address.isNBD {
      throw TraceError(.usage, "\(options.address.text): streams are served; for NBD use an NBD server, nbdkit or qemu-nbd")
    }
    reader = try TraceReader(path: tracePath)
    let epoch = try Replayer.epoch(reader)
    filter = EventFilter(options.replay, files: reader.files, epoch: epoch)
    builder = RequestBuilder(filter: filter, files: reader.files, engine: try EngineRegistry.engine(NetEngine.name))
    survey = try TraceSurvey.take(reader, builder: builder, filter: filter, schedule: ReplaySchedule(.maximum)).survey
    let reads = survey.files.contains { $0.reads }
    let writes = survey.files.contains { $0.changes }
    guard reads || writes else {
      throw TraceError(.refused, "\(PrintableText.escaped(tracePath)): no reads and no writes to serve; --only and --file choose")
    }
    limit = options.connections ?? (reads && writes ? 2 : 1)
    shared = ServerShared(
      options: options, reads: reads, writes: writes,
      sendBytes: survey.lengthsRead &* UInt64(options.replay.loops), receiveBytes: survey.bytesWritten &* UInt64(options.replay.loops),
      payload: Payload(seed: options.replay.seed, largestBytes: 1 << 20))
    report = ServeReport(
      trace: PrintableText.escaped(tracePath), digest: reader.totals?.digest.hexadecimal, address: options.address.text)
  }

  /// Serves until the limit of connections is reached, nobody comes for too long, or a stop signal came.
  /// - Parameter announce: told the address once peers may connect.
  public func run(announce: (String) -> Void) throws(TraceError) -> ServeReport {
    if options.address.isDatagram {
      try runDatagrams(announce)
    } else if options.connects {
      try runConnecting()
    } else {
      try runListening(announce)
    }
    report.connections = shared.results
    if ctrace_stop_signal() != 0 { report.stopped = "signal" }
    return report
  }

  // MARK: Streams

  private func runListening(_ announce: (String) -> Void) throws(TraceError) {
    let listener = try SocketSetup.listen(options.address, backlog: Int32(clamping: min(limit, 128)))
    defer {
      close(listener)
      if case .unix(let path) = options.address.transport { unlink(path) }
    }
    report.address = RemoteTargets.shown(options.address, listener)
    announce(report.address)
    var threads: [WorkerThread] = []
    var lastActivity = ctrace_monotonic_ns()
    while threads.count < limit, ctrace_stop_signal() == 0 {
      let slice = ctrace_monotonic_ns() + 100_000_000
      var accepted: (descriptor: Int32, peer: SocketAddress)?
      do throws(TraceError) { accepted = try SocketSetup.accept(listener, until: slice) } catch {
        if ctrace_stop_signal() != 0 { break }
        throw error
      }
      if shared.active > 0 { lastActivity = ctrace_monotonic_ns() }
      guard let (descriptor, peer) = accepted else {
        if ctrace_monotonic_ns() - lastActivity > options.idleNanoseconds {
          report.stopped = "idle"
          break
        }
        continue
      }
      lastActivity = ctrace_monotonic_ns()
      guard isAllowed(peer) else {
        close(descriptor)
        report.refused += 1
        continue
      }
      threads.append(try serve(descriptor, peer.text))
    }
    threads.forEach { $0.join() }
  }

  private func runConnecting() throws(TraceError) {
    var threads: [WorkerThread] = []
    for _ in 0..<limit {
      let descriptor = try SocketSetup.connect(options.address, timeoutNanoseconds: options.idleNanoseconds)
      threads.append(try serve(descriptor, options.address.text))
    }
    threads.forEach { $0.join() }
  }

  private func serve(_ descriptor: Int32, _ peer: String) throws(TraceError) -> WorkerThread {
    let shared = shared
    shared.begin()
    return try WorkerThread {
      ServedConnection(descriptor: descriptor, peer: peer, shared: shared).run()
      shared.end()
    }
  }

  private func isAllowed(_ peer: SocketAddress) -> Bool {
    let bytes = peer.bytes
    guard !bytes.isEmpty else { return true }
    return (options.allowed.isEmpty ? AddressPrefix.loopback : options.allowed).contains { $0.contains(bytes) }
  }

  // MARK: Datagrams

  private func runDatagrams(_ announce: (String) -> Void) throws(TraceError) {
    guard !(shared.reads && shared.writes) else {
      throw TraceError(.refused, "\(options.address.text): one direction at a time over UDP; --only read or --only write chooses")
    }
    var descriptor: Int32 = -1
    defer { if descriptor >= 0 { close(descriptor) } }
    var peerText = options.address.text
    if options.connects {
      descriptor = try SocketSetup.connect(options.address, timeoutNanoseconds: options.idleNanoseconds)
      ctrace_set_buffers(descriptor, 8 << 20)
      try NetDatagrams.greet(descriptor, options.address, timeoutNanoseconds: options.idleNanoseconds)
    } else {
      descriptor = try SocketSetup.listen(options.address, backlog: 1)
      ctrace_set_buffers(descriptor, 8 << 20)
      report.address = RemoteTargets.shown(options.address, descriptor)
      announce(report.address)
      var peer: SocketAddress?
      var turnedAway: UInt64 = 0
      do throws(TraceError) {
        peer = try NetDatagrams.await(descriptor, until: ctrace_monotonic_ns() + options.idleNanoseconds) {
          if isAllowed($0) { return true }
          turnedAway += 1
          return false
        }
      } catch { if ctrace_stop_signal() == 0 { throw error } }
      report.refused = turnedAway
      guard let peer else {
        report.stopped = "idle"
        return
      }
      peerText = peer.text
    }
    try exchangeDatagrams(descriptor, peerText)
  }

  private func exchangeDatagrams(_ descriptor: Int32, _ peer: String) throws(TraceError) {
    var network = NetworkOptions()
    network.timeoutNanoseconds = options.idleNanoseconds
    network.computesDigests = options.computesDigests
    var datagrams = try NetDatagrams(descriptor, address: options.address, options: network, eventLoop: .epoll)
    let begun = ctrace_monotonic_ns()
    if shared.writes { receiveAll(&datagrams) } else { try sendAll(&datagrams) }
    let lost =
      shared.writes
      ? datagrams.missing : datagrams.peerTally.map { datagrams.tally.datagrams &- min(datagrams.tally.datagrams, $0.datagrams) }
    var row = ServeReport.Connection(
      peer: peer, direction: shared.writes ? "received" : "sent", bytes: datagrams.tally.bytes, datagrams: datagrams.tally.datagrams,
      datagramsLost: lost, expectedBytes: shared.writes ? shared.receiveBytes : shared.sendBytes,
      digest: datagrams.tally.hasDigest ? Hexadecimal.text(datagrams.tally.digest) : nil, comparison: datagrams.comparison,
      elapsedNanoseconds: ctrace_monotonic_ns() - begun)
    row.failure = datagrams.hasEnded && shared.writes ? nil : datagrams.failure
    shared.add(row)
  }

  private func receiveAll(_ datagrams: inout NetDatagrams) {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: DatagramHeader.maximumDataBytes, alignment: 4096)
    defer { memory.deallocate() }
    let limit = options.limitBytes ?? shared.receiveBytes
    while datagrams.receive(memory, DatagramHeader.maximumDataBytes) >= 0, datagrams.tally.bytes <= limit {}
    datagrams.finishReceiving()
  }

  /// A datagram for each read, as long as that.
  private func sendAll(_ datagrams: inout NetDatagrams) throws(TraceError) {
    let memory = UnsafeMutableRawPointer(mutating: shared.payload.memory.baseAddress!)
    let limit = options.limitBytes ?? UInt64.max
    let events = EventBatch(capacity: 1024)
    sending: for _ in 0..<options.replay.loops {
      try filter.begin(reader)
      var builder = self.builder
      let batch = RequestBatch()
      while try reader.next(into: events), !filter.isPast(events, of: reader) {
        var index = 0
        while index < events.count {
          batch.count = 0
          builder.fill(batch, events.events, &index, count: events.count, firstNumber: events.firstEvent)
          for i in 0..<batch.count where batch.requests[i].kind == .read {
            let length = batch.requests[i].lengthBytes
            // Too large for a datagram, as the engine's own: it is the read that fails.
            if length > DatagramHeader.maximumDataBytes { continue }
            if datagrams.send(memory, length) < 0 || datagrams.tally.bytes >= limit { break sending }
          }
        }
      }
    }
    datagrams.finishSending()
  }
}
