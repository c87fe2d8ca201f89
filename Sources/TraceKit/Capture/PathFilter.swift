import CTrace

/// Which files a recording keeps, by globs on absolute paths.
public struct PathFilter: Sendable {
  /// Shell patterns as in fnmatch(3); `*` matches `/` too, so `/data/*` is everything below. None includes every file.
  public var include: [String]
  /// Patterns of files that are left out, also of those that `include` names.
  public var exclude: [String]

  public init(include: [String] = [], exclude: [String] = []) {
    self.include = include
    self.exclude = exclude
  }

  public var keepsEverything: Bool { include.isEmpty && exclude.isEmpty }

  /// Whether requests to the file at `path` are kept.
  public func keeps(_ path: [UInt8]) -> Bool {
    if keepsEverything { return true }
    let text = path.map { CChar(bitPattern: $0) } + [0]
    func matches(_ pattern: String) -> Bool { fnmatch(pattern, text, 0) == 0 }
    return (include.isEmpty || include.contains(where: matches)) && !exclude.contains(where: matches)
  }
}
