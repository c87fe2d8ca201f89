import CTrace
import Glibc

/// Names of a recording's pieces: `app.0001.iotrace`, `app.0002.iotrace` … for `app.iotrace`.
struct PieceNames: Sendable {
  private let folder: String
  private let stem: String
  private let ending: String

  init(path: String) {
    let slash = path.lastIndex(of: "/")
    folder = slash.map { String(path[...$0]) } ?? ""
    let name = slash.map { path[path.index(after: $0)...] } ?? path[...]
    let dot = name.dropFirst().lastIndex(of: ".")
    stem = String(dot.map { name[..<$0] } ?? name)
    ending = String(dot.map { name[$0...] } ?? "")
  }

  /// The path of piece `number`, counted from 1.
  func path(_ number: Int) -> String {
    let digits = String(number)
    return "\(folder)\(stem).\(String(repeating: "0", count: max(0, 4 - digits.count)))\(digits)\(ending)"
  }

  /// Pieces that are there already, in order.
  func existing() -> [String] {
    SmallFile.names(in: folder.isEmpty ? "." : folder).filter { name in
      guard name.hasPrefix(stem + "."), name.hasSuffix(ending), name.utf8.count >= stem.utf8.count + 5 + ending.utf8.count else {
        return false
      }
      let digits = name.dropFirst(stem.count + 1).dropLast(ending.count)
      return digits.count >= 4 && digits.allSatisfy { $0.isASCII && $0.isNumber }
    }.map { folder + $0 }
  }

  /// Makes room for a new recording: pieces of an earlier one would be taken for its own.
  /// - Throws: when there are some and `overwrite` is not set, or one of them is no trace.
  func clear(overwrite: Bool) throws(TraceError) {
    for path in existing() {
      guard overwrite else {
        throw TraceError(.refused, "\(PrintableText.escaped(path)): a piece of an earlier recording; --force removes those")
      }
      guard SmallFile.bytes(path, limitBytes: TraceFormat.preambleBytes).map({ $0.starts(with: TraceFormat.magic) }) == true else {
        throw TraceError(.refused, "\(PrintableText.escaped(path)): not a trace, so it is not removed; another name with -o")
      }
      guard unlink(path) == 0 else { throw TraceError(path: path, "remove it", errno: errno) }
    }
  }
}
