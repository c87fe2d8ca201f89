/// The engines that this build has; a new one is a file and a line here.
public struct EngineRegistry: Sendable {
  /// One engine, with the replay's loop specialised for it.
  public struct Entry: Sendable {
    public let name: String
    public let summary: String
    let needsTargets: Bool
    /// Runs one worker to its end on the calling thread.
    let runWorker: @Sendable (RequestQueue, ReplayControl, WorkerResult, Int, ReplayLog.Channel?) -> Void

    init<Engine: IOEngine & ~Copyable>(_ engine: Engine.Type) {
      name = Engine.name
      summary = Engine.summary
      needsTargets = Engine.needsTargets
      runWorker = { queue, control, result, limit, log in
        var worker = ReplayWorker<Engine>(queue: queue, control: control, result: result, claimLimit: limit, log: log)
        worker.run()
      }
    }
  }

  public static let entries: [Entry] = [Entry(NullEngine.self), Entry(SyncEngine.self)]

  /// The engine of a name.
  public static func engine(_ name: String) throws(TraceError) -> Entry {
    if let found = entries.first(where: { $0.name == name }) { return found }
    throw TraceError(
      .refused, "--engine \(PrintableText.escaped(name)): no such engine; there are \(entries.map(\.name).joined(separator: ", "))")
  }
}
