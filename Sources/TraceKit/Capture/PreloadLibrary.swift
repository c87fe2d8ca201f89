import CTrace
import Glibc

/// Finds libtracepreload.so.
public enum PreloadLibrary {
  public static let variable = "TRACE_PRELOAD_LIBRARY"

  /// The library's absolute path: the one that $TRACE_PRELOAD_LIBRARY names, or the one that was built or installed with the
  /// executable at `executable`.
  /// - Throws: when there is none.
  public static func path(executable: String) throws(TraceError) -> String {
    if let named = getenv(variable).map({ String(cString: $0) }), !named.isEmpty {
      guard let absolute = absolute(named) else { throw TraceError(path: named, "use it as \(variable)", errno: errno) }
      return absolute
    }
    let folder = executable.lastIndex(of: "/").map { String(executable[..<$0]) } ?? "."
    let places = [
      "\(folder)/iotrace_TraceRecord.resources/libtracepreload.so", "\(folder)/../lib/iotrace/libtracepreload.so",
      "\(folder)/libtracepreload.so",
    ]
    for place in places {
      if let absolute = absolute(place) { return absolute }
    }
    throw TraceError(
      .refused,
      "libtracepreload.so is neither beside \(PrintableText.escaped(executable)) nor in ../lib/iotrace; \(variable) names it")
  }

  private static func absolute(_ path: String) -> String? {
    guard access(path, R_OK) == 0, let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
  }
}
