extension RemoteTargets {
  /// Refuses what does not go together: engine, address, and options that only files and devices have a use for. Nothing has been
  /// read or opened then.
  static func checkTarget(_ options: ReplayOptions, _ engine: EngineRegistry.Entry) throws(TraceError) {
    for rule in options.targets.map where NetAddress.isAddress(rule.target) {
      throw TraceError(.usage, "--map \(PrintableText.escaped(rule.target)): addresses are targets of whole replays; --target names one")
    }
    guard let target = options.targets.target, NetAddress.isAddress(target) else { return try checkPath(engine) }
    let address = try NetAddress(target)
    try checkAddress(address, engine)
    if engine.targetKind == .files { return }
    if options.engineOptions.network.splices, address.isDatagram {
      throw TraceError(.usage, "--splice: \(address.text) takes datagrams, which cannot be spliced; TCP and Unix sockets can")
    }
    if let flag = unusedFlag(options, isExport: address.isNBD) {
      throw TraceError(.usage, "\(flag): is for files and devices; \(address.text) has no use for it")
    }
  }

  private static func checkPath(_ engine: EngineRegistry.Entry) throws(TraceError) {
    switch engine.targetKind {
    case .files: return
    case .streams: throw TraceError(.usage, "--engine net needs --target tcp://host:port, udp://host:port or unix:/path")
    case .exports: throw TraceError(.usage, "--engine nbd needs --target nbd://host[:port]/export or nbd+unix:///export?socket=/path")
    }
  }

  private static func checkAddress(_ address: NetAddress, _ engine: EngineRegistry.Entry) throws(TraceError) {
    switch engine.targetKind {
    case .files:
      guard engine.needsTargets else { return }
      throw TraceError(
        .usage, "\(address.text): the engine \(engine.name) works on files; --engine \(address.isNBD ? "nbd" : "net") goes there")
    case .streams: if address.isNBD { throw TraceError(.usage, "\(address.text): --engine nbd goes there") }
    case .exports: if !address.isNBD { throw TraceError(.usage, "\(address.text): --engine net goes there") }
    }
  }

  /// The first option that was given and would change nothing; nil when there is none. An export has offsets, a size and synchronous
  /// writes; a stream has none of them.
  private static func unusedFlag(_ options: ReplayOptions, isExport: Bool) -> String? {
    let targets = options.targets
    let choices: [(flag: String, isChosen: Bool)] = [
      ("--map", !targets.map.isEmpty),
      ("--verify", options.verifies),
      ("--direct", options.cacheUse == .direct),
      ("--buffered", options.cacheUse == .buffered),
      ("--cold", targets.cold),
      ("--drop-caches", targets.dropsSystemCaches),
      ("--scratch", targets.scratch != nil),
      ("--keep-scratch", targets.keepScratch),
      ("--offset", targets.offsetBytes != 0 && !isExport),
      ("--wrap", targets.wrap != .error && !isExport),
      ("--sync", options.synchronousWrites && !isExport),
    ]
    return choices.first(where: \.isChosen)?.flag
  }
}
