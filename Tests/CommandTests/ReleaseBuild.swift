import Foundation

/// The optimised commands, where `make test` or `make` built them.
enum ReleaseBuild {
  /// `trace-replay`; nil when there is none, or the library's sources are newer.
  static let traceReplay: String? = {
    let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let command = package.appendingPathComponent(".build/release/trace-replay").path
    guard let built = modified(command) else { return nil }
    let sources = package.appendingPathComponent("Sources/TraceKit").path
    let isNewest = (FileManager.default.subpaths(atPath: sources) ?? []).allSatisfy { modified(sources + "/" + $0).map { $0 <= built } ?? true }
    return isNewest ? command : nil
  }()

  private static func modified(_ path: String) -> Date? {
    (try? FileManager.default.attributesOfItem(atPath: path))?[.modificationDate] as? Date
  }
}
