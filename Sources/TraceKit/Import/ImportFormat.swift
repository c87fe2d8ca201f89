/// A foreign trace format that can be imported. To add one: a file in this folder that defines it, and a line in `all`.
public struct ImportFormat: Sendable {
  /// What `--format` calls it.
  public var name: String
  /// One line for help texts.
  public var summary: String
  /// Whether a file that begins with `head` (up to `ImportFormat.probeBytes`) and is `sizeBytes` long has this format, by its
  /// content alone.
  public var recognizes: @Sendable (_ head: [UInt8], _ sizeBytes: UInt64) -> Bool
  /// Opens one input.
  var open: @Sendable (_ input: ReadableFile, _ context: ImportContext) throws(TraceError) -> any ImportReader

  /// Bytes of an input that are looked at to recognise its format.
  public static let probeBytes = 64 << 10

  /// Every format, in the order of the help text.
  public static let all: [ImportFormat] = [fio, vscsi]

  /// The format called `name`, or nil.
  public static func named(_ name: String) -> ImportFormat? { all.first { $0.name == name } }

  /// The format of the file at `path`: the named one when its content agrees, else the only one that its content fits.
  /// - Throws: when the file can't be read, or no format or several fit.
  static func detect(_ file: ReadableFile, named name: String?) throws(TraceError) -> ImportFormat {
    let shown = PrintableText.escaped(file.path)
    guard file.sizeBytes > 0 else { throw TraceError(.invalidInput, "\(shown): empty, nothing to import") }
    let head = try file.bytes(probeBytes, at: 0)
    if let name {
      guard let format = named(name) else {
        throw TraceError(.unsupported, "no import format is called '\(PrintableText.escaped(name))'; there are \(names)")
      }
      guard format.recognizes(head, file.sizeBytes) else {
        let other = all.first { $0.recognizes(head, file.sizeBytes) }
        let hint = other.map { "; it looks like '\($0.name)'" } ?? ""
        throw TraceError(.invalidInput, "\(shown): its content is not that of '\(name)' (\(format.summary))\(hint)")
      }
      return format
    }
    if head.starts(with: TraceFormat.magic) {
      throw TraceError(.invalidInput, "\(shown): a trace already; nothing to import")
    }
    let fitting = all.filter { $0.recognizes(head, file.sizeBytes) }
    guard fitting.count <= 1 else {
      let choices = fitting.map(\.name).joined(separator: ", ")
      throw TraceError(.invalidInput, "\(shown): its content fits several formats (\(choices)); say which with --format")
    }
    guard let only = fitting.first else {
      throw TraceError(.invalidInput, "\(shown): its content is none of the formats \(names)")
    }
    return only
  }

  private static var names: String { all.map(\.name).joined(separator: ", ") }
}

/// Reads one input of a foreign format.
protocol ImportReader: AnyObject {
  /// Replaces `events` by the next ones, a few thousand at a time and in the order of the input.
  /// - Returns: false at the end, with `events` empty.
  func read(into events: inout [TraceEvent]) throws(TraceError) -> Bool
}
