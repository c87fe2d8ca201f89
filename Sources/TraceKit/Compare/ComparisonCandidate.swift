import Glibc

/// One of the alternatives that are compared: a name and how its runs are made.
public struct ComparisonCandidate: Sendable {
  /// What tells it from the others; safe to print.
  public var name: String
  public var options: ReplayOptions

  public init(name: String, options: ReplayOptions) {
    self.name = PrintableText.escaped(name)
    self.options = options
  }

  /// The candidates of every engine on every target. A setting that only some of the engines have a use for goes to those; one that
  /// none has stays in all, so that it is refused.
  /// - Parameters:
  ///   - targets: empty for scratch files in their usual place. A folder gets scratch files: what a run made must not be there
  ///     when the next one begins.
  ///   - options: the options of an engine on a target.
  public static func all(
    engines: [String], targets: [String], options: (_ engine: String, _ target: String?) -> ReplayOptions
  ) -> [ComparisonCandidate] {
    let known = engines.compactMap { try? EngineRegistry.engine($0) }
    let useless = Set(EngineSetting.allCases).subtracting(known.flatMap(\.settings))
    return engines.flatMap { engine in
      (targets.isEmpty ? [nil] : targets.map { Optional($0) }).map { target in
        var made = options(engine, target)
        let own = known.first { $0.name == engine }?.settings ?? []
        made.engineOptions = made.engineOptions.keeping(own.union(useless))
        if let target, isFolder(target) {
          made.targets.target = nil
          made.targets.scratch = target
        }
        let name = targets.count < 2 ? engine : engines.count < 2 ? target! : "\(engine) on \(target!)"
        return ComparisonCandidate(name: name, options: made)
      }
    }
  }

  private static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && FileMode.kind(status.st_mode) == .directory
  }
}
