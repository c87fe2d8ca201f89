/// A setting that only some engines have a use for.
public enum EngineSetting: String, CaseIterable, Sendable {
  case iodepth = "--iodepth"
  case submissionPolling = "--sqpoll"
  case completionPolling = "--iopoll"
  case fixedBuffers = "--fixed"
  case eventLoop = "--event-loop"
  case pipeSize = "--pipe-size"
  case idleRelease = "--idle-release"
  case listen = "--listen"
  case duplex = "--duplex"
  case splice = "--splice"
  case timeout = "--timeout"
  case noDigest = "--no-digest"

  /// The flag that chooses it.
  var flag: String { rawValue }
}

extension EngineOptions {
  /// The settings that differ from what an engine does by itself.
  public var chosen: Set<EngineSetting> {
    let usual = EngineOptions()
    var chosen: Set<EngineSetting> = []
    if let iodepth, iodepth > 1 { chosen.insert(.iodepth) }
    if submissionPolling { chosen.insert(.submissionPolling) }
    if completionPolling { chosen.insert(.completionPolling) }
    if fixedBuffers { chosen.insert(.fixedBuffers) }
    if eventLoop != usual.eventLoop { chosen.insert(.eventLoop) }
    if pipeBytes != nil { chosen.insert(.pipeSize) }
    if idleReleaseNanoseconds != usual.idleReleaseNanoseconds { chosen.insert(.idleRelease) }
    if network.listens { chosen.insert(.listen) }
    if network.isDuplex { chosen.insert(.duplex) }
    if network.splices { chosen.insert(.splice) }
    if network.timeoutNanoseconds != usual.network.timeoutNanoseconds { chosen.insert(.timeout) }
    if !network.computesDigests { chosen.insert(.noDigest) }
    return chosen
  }

  /// The same without the settings that are not among `settings`.
  public func keeping(_ settings: Set<EngineSetting>) -> EngineOptions {
    let usual = EngineOptions()
    var kept = self
    for setting in chosen.subtracting(settings) {
      switch setting {
      case .iodepth: kept.iodepth = usual.iodepth
      case .submissionPolling: kept.submissionPolling = usual.submissionPolling
      case .completionPolling: kept.completionPolling = usual.completionPolling
      case .fixedBuffers: kept.fixedBuffers = usual.fixedBuffers
      case .eventLoop: kept.eventLoop = usual.eventLoop
      case .pipeSize: kept.pipeBytes = usual.pipeBytes
      case .idleRelease: kept.idleReleaseNanoseconds = usual.idleReleaseNanoseconds
      case .listen: kept.network.listens = usual.network.listens
      case .duplex: kept.network.isDuplex = usual.network.isDuplex
      case .splice: kept.network.splices = usual.network.splices
      case .timeout: kept.network.timeoutNanoseconds = usual.network.timeoutNanoseconds
      case .noDigest: kept.network.computesDigests = usual.network.computesDigests
      }
    }
    return kept
  }
}

extension EngineRegistry.Entry {
  /// Why the engine can't run with these settings, naming the flag; nil when it can.
  public func refusal(of options: EngineOptions) -> String? {
    guard let setting = EngineSetting.allCases.first(where: { options.chosen.contains($0) && !settings.contains($0) }) else {
      return conflict(options)
    }
    if setting == .iodepth {
      let depth = options.iodepth ?? 1
      return
        "--iodepth \(depth): the engine \(name) completes one request at a time; --workers \(depth) keeps as many in flight"
    }
    let having = EngineRegistry.entries.filter { $0.settings.contains(setting) }.map(\.name).joined(separator: ", ")
    return "\(setting.flag): the engine \(name) has no use for it; it is a setting of \(having)"
  }
}
