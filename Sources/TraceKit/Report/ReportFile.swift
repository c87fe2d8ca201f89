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
    let bytes = try file.bytes(Int(file.sizeBytes), at: 0)
    try checkShape(bytes, shown)
    do {
      let decoder = JSONDecoder()
      let arrays = BucketArrays(bytes)
      decoder.userInfo[BucketArrays.key] = arrays?.arrays
      let report = try decoder.decode(ReplayReport.self, from: arrays.map { Data($0.shortened) } ?? Data(bytes))
      try checkSchema(report.schema, shown)
      return report
    } catch let error as TraceError { throw error } catch {
      // Only what can't be read is looked at twice, to say why.
      let head: Head
      do { head = try JSONDecoder().decode(Head.self, from: Data(bytes)) } catch {
        if let place = nonNumber(bytes) {
          throw TraceError(.invalidInput, "\(shown): not valid JSON: at byte \(place) a value that is no number (NaN or infinite)")
        }
        throw TraceError(.invalidInput, "\(shown): not valid JSON, so no report: \(Self.explain(error))")
      }
      guard let schema = head.schema else {
        throw TraceError(.invalidInput, "\(shown): JSON, but not a report of trace-replay (run it with --json to make one)")
      }
      try checkSchema(schema, shown)
      throw TraceError(.invalidInput, "\(shown): a broken report: \(Self.explain(error))")
    }
  }

  private struct Head: Decodable {
    var schema: ReplayReport.Schema?
    enum CodingKeys: CodingKey { case schema }
    init(from decoder: any Decoder) throws {
      // A document that is an array or has another schema entry is no report, but valid JSON.
      schema = try? decoder.container(keyedBy: CodingKeys.self).decode(ReplayReport.Schema.self, forKey: .schema)
    }
  }

  /// What can be said without a parser: empty, no JSON object at all, cut off.
  private static func checkShape(_ bytes: [UInt8], _ shown: String) throws(TraceError) {
    func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }
    guard let first = bytes.first(where: { !isBlank($0) }), let last = bytes.last(where: { !isBlank($0) }) else {
      throw TraceError(.invalidInput, "\(shown): empty, not a report")
    }
    guard first == 0x7B || first == 0x5B else {
      throw TraceError(.invalidInput, "\(shown): not a report: it is neither JSON nor a trace")
    }
    guard last == 0x7D || last == 0x5D else {
      throw TraceError(.invalidInput, "\(shown): cut off: \(bytes.count) bytes of JSON without an end")
    }
  }

  /// The first bare NaN, Infinity or -Infinity after a colon, comma or bracket; quoted text is passed over.
  private static func nonNumber(_ bytes: [UInt8]) -> Int? {
    var (isQuoted, isEscaped) = (false, false)
    for (i, byte) in bytes.enumerated() {
      if isQuoted {
        if isEscaped { isEscaped = false } else if byte == 0x5C { isEscaped = true } else if byte == 0x22 { isQuoted = false }
      } else if byte == 0x22 {
        isQuoted = true
      } else if [0x4E, 0x6E, 0x49, 0x69].contains(byte) {
        let word = bytes[i...].prefix(3).map { $0 | 0x20 }
        if word == Array("nan".utf8) || word == Array("inf".utf8) { return i }
      }
    }
    return nil
  }

  private static func checkSchema(_ schema: ReplayReport.Schema, _ shown: String) throws(TraceError) {
    guard schema.name == ReplayReport.schemaName else {
      throw TraceError(
        .invalidInput, "\(shown): its schema is '\(PrintableText.escaped(schema.name))', not that of a report of a replay")
    }
    guard schema.version.split(separator: ".").first == ReplayReport.schemaVersion.split(separator: ".").first else {
      throw TraceError(
        .unsupported, "\(shown): schema version \(PrintableText.escaped(schema.version)); this version reads \(ReplayReport.schemaVersion)")
    }
  }

  private static func explain(_ error: any Error) -> String {
    func place(_ context: DecodingError.Context) -> String {
      PrintableText.escaped(context.codingPath.map(\.stringValue).joined(separator: "."))
    }
    switch error as? DecodingError {
    case .keyNotFound(let key, let context):
      return "'\(([place(context), key.stringValue].filter { !$0.isEmpty }).joined(separator: "."))' is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context): return "'\(place(context))' is of the wrong type"
    case .dataCorrupted(let context):
      let reason = context.underlyingError.map { " (\($0))" } ?? ""
      return PrintableText.escaped("\(place(context).isEmpty ? "" : "'\(place(context))': ")\(context.debugDescription)\(reason)")
    default: return PrintableText.escaped("\(error)")
    }
  }
}
