import CTrace
import Glibc

/// The folder in which a comparison or a self-test keeps its reports.
public struct RunFolder: Sendable {
  public let path: String
  private let overwrite: Bool
  private let isNew: Bool

  /// Makes the folder.
  /// - Throws: when it exists and `overwrite` is not set; with it, files of the names that are written are replaced, others stay.
  public init(path: String, overwrite: Bool) throws(TraceError) {
    self.path = path
    self.overwrite = overwrite
    let shown = PrintableText.escaped(path)
    let code = mkdir(path, 0o777) == 0 ? 0 : errno
    isNew = code == 0
    if isNew { return }
    guard code == EEXIST else { throw TraceError(path: path, "create the folder", errno: code) }
    guard overwrite else { throw TraceError(.refused, "\(shown): exists already; --output names another folder, --force writes into it") }
    var status = stat()
    guard stat(path, &status) == 0, FileMode.kind(status.st_mode) == .directory else {
      throw TraceError(.refused, "\(shown): is no folder; --output names another")
    }
  }

  /// `/data/app.iotrace` gives `app.` and the suffix, in the current folder.
  public static func defaultPath(tracePath: String, suffix: String) -> String {
    let name = tracePath.split(separator: "/").last.map(String.init) ?? "trace"
    let stem = name.hasSuffix(".iotrace") ? String(name.dropLast(8)) : name
    return "\(stem).\(suffix)"
  }

  /// Removes the folder again when it was made for nothing; one with files in it stays.
  public func removeIfEmpty() {
    if isNew { rmdir(path) }
  }

  public func file(_ name: String) -> String { "\(path)/\(name)" }

  public func write(_ bytes: [UInt8], as name: String) throws(TraceError) {
    try ReportFile.write(bytes, to: file(name), overwrite: overwrite)
  }

  /// Options of a run whose log goes into the folder.
  func logging(_ options: ReplayOptions, as name: String) -> ReplayOptions {
    var options = options
    options.logPath = file(name)
    options.overwriteLog = overwrite
    return options
  }
}
