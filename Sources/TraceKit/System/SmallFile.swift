import CTrace

/// Reads the small text files of /proc and /sys.
public enum SmallFile {
  /// The text of a file of at most `limitBytes`, or nil when it can't be read.
  public static func text(_ path: String, limitBytes: Int = 1 << 20) -> String? {
    bytes(path, limitBytes: limitBytes).map { String(decoding: $0, as: UTF8.self) }
  }

  /// The first `limitBytes` bytes of a file, or nil when it can't be read.
  public static func bytes(_ path: String, limitBytes: Int = 1 << 20) -> [UInt8]? {
    let descriptor = ctrace_open(path, O_RDONLY | O_CLOEXEC, 0)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var all: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 16_384)
    while all.count < limitBytes {
      let count = read(descriptor, &piece, min(piece.count, limitBytes - all.count))
      if count < 0 { return nil }
      if count == 0 { break }
      all.append(contentsOf: piece[0..<count])
    }
    return all
  }

  /// The first line without its end, or nil.
  public static func line(_ path: String) -> String? {
    text(path, limitBytes: 4096).map { String($0.prefix { $0 != "\n" }) }
  }

  /// Names in a folder without `.` and `..`, sorted; empty when it can't be read.
  public static func names(in folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
  }
}
