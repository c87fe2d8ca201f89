/// The engines that this build has; a new one is a file and a line here.
public struct EngineRegistry: Sendable {
  /// One engine, with the replay's loop specialised for it.
  public struct Entry: Sendable {
    public let name: String
    public let summary: String
    public let capabilities: EngineCapabilities
    public let needsTargets: Bool
    public let targetKind: EngineTargetKind
    public let isAsynchronous: Bool
    /// Why this machine cannot run it; nil when it can.
    public let unavailability: @Sendable () -> String?
    /// What the running kernel has of what the engine can use.
    public let features: @Sendable () -> [String]
    /// What an errno means with this engine, where the system's text for it would mislead.
    let meaning: @Sendable (Int32, IOOperation.Kind) -> String?
    /// The settings that it has a use for.
    public let settings: Set<EngineSetting>
    /// Why settings of its own exclude each other, naming the option; nil when they don't.
    let conflict: @Sendable (EngineOptions) -> String?
    /// Runs one worker to its end on the calling thread.
    let runWorker: @Sendable (WorkerSetup) -> Void

    init<Engine: IOEngine & ~Copyable>(_ engine: Engine.Type) {
      name = Engine.name
      summary = Engine.summary
      capabilities = Engine.capabilities
      needsTargets = Engine.needsTargets
      targetKind = Engine.targetKind
      isAsynchronous = Engine.isAsynchronous
      unavailability = { Engine.unavailability() }
      features = { Engine.features() }
      meaning = { Engine.meaning(of: $0, $1) }
      settings = Engine.settings
      conflict = { Engine.refusal(of: $0) }
      runWorker = { ReplayWorker<Engine>.run($0) }
    }

    /// Its targets are files and block devices.
    public var worksOnFiles: Bool { needsTargets && targetKind == .files }

    /// Requests in flight per worker unless the user says otherwise.
    public var defaultIodepth: Int { isAsynchronous ? EngineOptions.defaultIodepth : 1 }
  }

  public static let entries: [Entry] = [
    Entry(NullEngine.self), Entry(SyncEngine.self), Entry(SpliceEngine.self), Entry(MmapEngine.self),
    Entry(LibaioEngine.self), Entry(IOUringEngine.self),
    Entry(NetEngine.self), Entry(NBDEngine.self),
  ]

  /// The engine that a target asks for when none is named.
  public static func engineName(forTarget target: String?) -> String {
    guard let target, NetAddress.isAddress(target) else { return SyncEngine.name }
    return target.hasPrefix("nbd") ? "nbd" : "net"
  }

  /// The engine of a name.
  public static func engine(_ name: String) throws(TraceError) -> Entry {
    if let found = entries.first(where: { $0.name == name }) { return found }
    throw TraceError(
      .refused, "--engine \(PrintableText.escaped(name)): no such engine; there are \(entries.map(\.name).joined(separator: ", "))")
  }
}
