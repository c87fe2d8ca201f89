import CTrace
import FoundationEssentials
import Glibc

/// Reads and writes reports as JSON.
public enum ReportFile {
  /// A report file longer than this is not read.
  static let maximumBytes = 256 << 20

  /// A value as JSON with sorted keys and a final newline.
  public static func json(_ value: some Encodable, pretty: Bool = true) throws(TraceError) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = pretty ? [.sortedKeys, .withoutEscapingSlashes] : [.sortedKeys]
    do { return Array(try encoder.encode(value)) + [0x0A] } catch {
      throw TraceError(.refused, "the report can't be written as JSON: \(error)")
    }
  }

  /// Throws what `write` would throw, before the work that is to be reported is begun.
  public static func check(_ path: String, overwrite: Bool) throws(TraceError) {
    if path == "-" { return }
    if access(path, F_OK) == 0, !overwrite {
      throw TraceError(.refused, "\(PrintableText.escaped(path)): exists already; --force replaces it")
    }
    let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    guard access(folder, W_OK) == 0 else { throw TraceError(path: path, "create it", errno: errno) }
  }

  /// Writes bytes to a file, or to standard output for `-`. An existing file is replaced only with `overwrite`.
  public static func write(_ bytes: [UInt8], to path: String, overwrite: Bool) throws(TraceError) {
    if path == "-" { return try writeAll(bytes, to: 1, path: "standard output") }
    let flags = O_WRONLY | O_CREAT | O_CLOEXEC | (overwrite ? O_TRUNC : O_EXCL)
    let descriptor = ctrace_open(path, flags, 0o666)
    guard descriptor >= 0 else {
      if errno == EEXIST { throw TraceError(.refused, "\(PrintableText.escaped(path)): exists already; --force replaces it") }
      throw TraceError(path: path, "create it", errno: errno)
    }
    defer { close(descriptor) }
    try writeAll(bytes, to: descriptor, path: path)
  }

  private static func writeAll(_ bytes: [UInt8], to descriptor: Int32, path: String) throws(TraceError) {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + done, bytes.count - done) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw TraceError(path: path, "write to it", errno: errno) }
      done += count
    }
  }

  /// A saved report.
  /// - Throws: an error that names the file and what is wrong: not readable, not JSON, no report, of another schema version,
  ///   broken inside.
  public static func report(_ path: String) throws(TraceError) -> ReplayReport {
    let shown = PrintableText.escaped(path)
    let file = try ReadableFile(path: path)
    guard file.sizeBytes <= UInt64(maximumBytes) else {
      throw TraceError(.invalidInput, "\(shown): \(ByteCount.text(file.sizeBytes)) is too long for a report")
    }
    let data = Data(try file.bytes(Int(file.sizeBytes), at: 0))
    struct Head: Decodable { var schema: ReplayReport.Schema? }
    guard let head = try? JSONDecoder().decode(Head.self, from: data), let schema = head.schema else {
      throw TraceError(.invalidInput, "\(shown): not a report of trace-replay (run it with --json to make one)")
    }
    guard schema.name == ReplayReport.schemaName else {
      throw TraceError(.invalidInput, "\(shown): a \(PrintableText.escaped(schema.name)), not a report of a replay")
    }
    guard schema.version.split(separator: ".").first == ReplayReport.schemaVersion.split(separator: ".").first else {
      throw TraceError(
        .unsupported, "\(shown): schema version \(PrintableText.escaped(schema.version)); this version reads \(ReplayReport.schemaVersion)")
    }
    do { return try JSONDecoder().decode(ReplayReport.self, from: data) } catch {
      throw TraceError(.invalidInput, "\(shown): a broken report: \(Self.explain(error))")
    }
  }

  private static func explain(_ error: any Error) -> String {
    func place(_ context: DecodingError.Context) -> String { context.codingPath.map(\.stringValue).joined(separator: ".") }
    switch error as? DecodingError {
    case .keyNotFound(let key, let context):
      return "'\(([place(context), key.stringValue].filter { !$0.isEmpty }).joined(separator: "."))' is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context): return "'\(place(context))' is of the wrong type"
    case .dataCorrupted(let context): return "'\(place(context))': \(context.debugDescription)"
    default: return "\(error)"
    }
  }
}
