import CTrace
import Glibc

/// The peers of a replay whose target is an address: checked against what the trace will do, and met, before the clock starts.
final class RemoteTargets {
  /// One for each worker.
  private(set) var connections: [NetConnection] = []
  /// A row per recorded file; the address stands in the first that has requests.
  private(set) var targets: [ReplayTarget]
  /// What a report must say.
  private(set) var notes: [String] = []
  private let address: NetAddress
  private let network: NetworkOptions

  // MARK: Before anything is done

  /// What a dry run says; nobody is called.
  static func planned(
    _ options: ReplayOptions, engine: EngineRegistry.Entry, files: [TraceFile], survey: TraceSurvey
  ) throws(TraceError) -> ReplayPlanSummary.Target {
    let address = try NetAddress(options.targets.target ?? "")
    let used = files.indices.filter { survey.files[$0].requests > 0 }
    let changes = survey.files.contains { $0.changes }
    let reads = survey.files.contains { $0.reads }
    let directions = reads && changes ? "sent and received" : reads ? "received" : "sent"
    return ReplayPlanSummary.Target(
      recorded: used.count == 1 ? files[used[0]].displayPath : "\(used.count) files", target: address.text, exists: true,
      bytesOverwritten: address.isNBD ? survey.bytesWritten : 0, changes: address.isNBD && changes, requests: survey.requests,
      needsPermission: address.isNBD && changes && !options.targets.allowWrites, directions: address.isNBD ? nil : directions)
  }

  // MARK: Opening

  /// Checks and meets the peers.
  /// - Throws: a refusal that names address, reason and flag. Nothing has been sent of the trace then.
  init(
    _ options: ReplayOptions, engine: EngineRegistry.Entry, files: [TraceFile], survey: TraceSurvey, workers: Int
  ) throws(TraceError) {
    address = try NetAddress(options.targets.target ?? "")
    network = options.engineOptions.network
    targets = Array(repeating: ReplayTarget(path: ""), count: files.count)
    let used = files.indices.filter { survey.files[$0].requests > 0 }
    for id in used {
      targets[id].path = address.text
      targets[id].addressScheme = address.scheme
    }
    if let first = used.first {
      targets[first].requests = survey.requests
      targets[first].bytesToWrite = survey.bytesWritten
    }
    do throws(TraceError) {
      if engine.targetKind == .exports {
        try openExports(options, files: files, used: used, survey: survey, workers: workers)
      } else {
        try openStreams(options, survey: survey, workers: workers)
      }
    } catch {
      cleanUp()
      throw error
    }
  }

  deinit { cleanUp() }

  /// Closes all connections; harmless when called twice.
  func cleanUp() {
    for i in connections.indices {
      if connections[i].output >= 0 { close(connections[i].output) }
      if connections[i].input >= 0 { close(connections[i].input) }
      connections[i].output = -1
      connections[i].input = -1
    }
  }

  // MARK: Streams

  private func openStreams(_ options: ReplayOptions, survey: TraceSurvey, workers: Int) throws(TraceError) {
    let reads = survey.files.contains { $0.reads }
    let writes = survey.files.contains { $0.changes }
    if reads, writes, !network.isDuplex {
      throw TraceError(
        .refused,
        "\(address.text): a stream has one direction, and the trace reads and writes; --only read or --only write chooses one, --duplex makes two connections"
      )
    }
    if address.isDatagram, network.isDuplex {
      throw TraceError(.usage, "--duplex: \(address.text) takes datagrams, one direction at a time; --only read or --only write chooses")
    }
    if address.isDatagram, network.listens, workers > 1 {
      throw TraceError(.usage, "--workers \(workers): one peer is waited for at \(address.text)")
    }
    if address.isDatagram, survey.largestRequestBytes > UInt64(DatagramHeader.maximumDataBytes) {
      notes.append(
        "some requests are larger than a datagram can be (\(DatagramHeader.maximumDataBytes) bytes of data): they fail with EMSGSIZE")
    }
    notes.append("a stream has no offsets: those of the trace are ignored; syncs complete at once")
    let listener = network.listens ? try SocketSetup.listen(address, backlog: Int32(clamping: workers * 2)) : -1
    defer {
      if listener >= 0, !address.isDatagram {
        close(listener)
        if case .unix(let path) = address.transport { unlink(path) }
      }
    }
    if listener >= 0 {
      StandardError.write(
        "trace-replay: waiting for \(workers == 1 && !network.isDuplex ? "the peer" : "\(workers * (network.isDuplex ? 2 : 1)) connections") at \(Self.shown(address, listener))\n"
      )
    }
    let wanted = UInt64(workers == 1 ? survey.lengthsRead &* UInt64(options.loops) : 0)
    for _ in 0..<workers {
      connections.append(NetConnection(address: address))
      let last = connections.count - 1
      connections[last].allowsWrites = true
      if writes || !reads { connections[last].output = try meet(listener) }
      if reads { connections[last].input = try meet(listener) }
      if reads, !address.isDatagram { try introduce(connections[last].input, wanted: wanted, options.engineOptions) }
    }
  }

  /// Tells the sending end that this one receives.
  private func introduce(_ descriptor: Int32, wanted: UInt64, _ options: EngineOptions) throws(TraceError) {
    var plain = options
    plain.network.splices = false
    plain.eventLoop = .epoll
    var stream = try NetStream(descriptor, address: address, options: plain)
    stream.sendHello(wanted: wanted)
  }

  private func meet(_ listener: Int32) throws(TraceError) -> Int32 {
    if address.isDatagram { return try meetByDatagram(listener) }
    guard listener >= 0 else { return try SocketSetup.connect(address, timeoutNanoseconds: network.timeoutNanoseconds) }
    let deadline = ctrace_monotonic_ns() + network.timeoutNanoseconds
    guard let (descriptor, _) = try SocketSetup.accept(listener, until: deadline) else {
      throw TraceError(
        .system(ETIMEDOUT),
        "\(address.text): nobody connected for \(DurationText.text(network.timeoutNanoseconds)) (--timeout sets how long to wait)")
    }
    return descriptor
  }

  private func meetByDatagram(_ listener: Int32) throws(TraceError) -> Int32 {
    let descriptor = listener >= 0 ? listener : try SocketSetup.connect(address, timeoutNanoseconds: network.timeoutNanoseconds)
    ctrace_set_buffers(descriptor, 8 << 20)
    do throws(TraceError) {
      if listener < 0 {
        try NetDatagrams.greet(descriptor, address, timeoutNanoseconds: network.timeoutNanoseconds)
      } else {
        let deadline = ctrace_monotonic_ns() + network.timeoutNanoseconds
        guard try NetDatagrams.await(descriptor, until: deadline, isAllowed: { _ in true }) != nil else {
          throw TraceError(
            .system(ETIMEDOUT),
            "\(address.text): nobody called for \(DurationText.text(network.timeoutNanoseconds)) (--timeout sets how long to wait)")
        }
      }
    } catch {
      close(descriptor)
      throw error
    }
    return descriptor
  }

  /// The address that a listener has, whose port the system may have chosen.
  static func shown(_ address: NetAddress, _ listener: Int32) -> String {
    address.isUnix ? address.text : "\(address.scheme)://\(SocketAddress.local(listener).text)"
  }

  // MARK: Exports

  private func openExports(
    _ options: ReplayOptions, files: [TraceFile], used: [Int], survey: TraceSurvey, workers: Int
  ) throws(TraceError) {
    guard used.count <= 1 else {
      throw TraceError(
        .refused, "\(address.text): one export, but the trace has \(used.count) files; choose one with --file")
    }
    guard let id = used.first else { return }
    let file = survey.files[id]
    let allowsWrites = options.targets.allowWrites
    guard !file.changes || allowsWrites else {
      throw TraceError(
        .refused,
        "\(address.text): existed before, and the replay would overwrite \(ByteCount.text(file.bytesToWrite)) there; --allow-writes permits it"
      )
    }
    for _ in 0..<workers {
      var connection = NetConnection(address: address)
      connection.output = try SocketSetup.connect(address, timeoutNanoseconds: network.timeoutNanoseconds)
      connections.append(connection)
      let export = try NBDHandshake.negotiate(connection.output, address, timeoutNanoseconds: network.timeoutNanoseconds)
      connections[connections.count - 1].export = export
      connections[connections.count - 1].allowsWrites = allowsWrites
      try check(export, file, workers: workers)
    }
    if let size = connections.map({ $0.export?.sizeBytes ?? 0 }).min() {
      targets[id].sizeBytes = size
      targets[id].placement = try placement(options.targets, size, file, largest: survey.largestRequestBytes)
    }
  }

  /// Where the export takes the file's bytes.
  private func placement(
    _ options: TargetOptions, _ size: UInt64, _ file: TraceSurvey.File, largest: UInt64
  ) throws(TraceError) -> TargetPlacement {
    let needed = max(file.readEnd, file.writeEnd)
    let room = size > options.offsetBytes ? size - options.offsetBytes : 0
    let offset = Int64(clamping: options.offsetBytes)
    guard room < needed else { return TargetPlacement(offsetBytes: offset) }
    let start = "\(address.text): too small: it has \(ByteCount.text(room))"
    guard options.wrap != .error else {
      throw TraceError(
        .refused,
        "\(start), the trace reads or writes up to \(ByteCount.text(needed)); --to and --file choose a part of the trace, --wrap modulo and --wrap scale make it fit"
      )
    }
    guard room >= max(1, largest) else {
      throw TraceError(.refused, "\(start), less than the longest request (\(ByteCount.text(largest)))")
    }
    return TargetPlacement(
      offsetBytes: offset, wrap: options.wrap, roomBytes: Int64(clamping: room), spanBytes: Int64(clamping: needed))
  }

  private func check(_ export: NBDExport, _ file: TraceSurvey.File, workers: Int) throws(TraceError) {
    if file.changes, export.isReadOnly {
      throw TraceError(.refused, "\(address.text): the server's export is read-only, and the trace writes; --only read leaves writes out")
    }
    if workers > 1, file.changes, !export.takesSeveralConnections {
      throw TraceError(
        .refused,
        "\(address.text): the server does not promise that several connections see each other's writes; --workers 1 --iodepth keeps requests in flight on one"
      )
    }
    if export.minimumBlockBytes > 1 {
      let note = "the server takes blocks of \(export.minimumBlockBytes) bytes: it may refuse requests that are not aligned to them"
      if !notes.contains(note) { notes.append(note) }
    }
    if !file.flags.isDisjoint(with: [.sync, .dataSync, .requestSync, .requestDataSync]), !export.forcesUnitAccess {
      let note =
        export.flushes
        ? "the server has no FUA: synchronous writes are followed by a flush"
        : "the server has neither FUA nor flush: synchronous writes are plain writes"
      if !notes.contains(note) { notes.append(note) }
    }
  }
}
