import CTrace
import Glibc

/// The name by which a program opened a file, as it stands in the program's memory.
struct GivenName: Sendable {
  /// As given; relative to a folder unless it begins with a slash.
  var path: [UInt8]
  /// The path from the root, where the folder is known.
  var absolute: [UInt8]?
  /// Where the recorder finds what has that name now; nil when it can't.
  var place: String?
  /// Flags of open(2); nil where the call keeps them in memory.
  var flags: UInt32?

  /// The call makes a regular file where there was none.
  var creates: Bool { flags.map { Int32(bitPattern: $0) & O_CREAT != 0 } ?? false }

  /// The call opens nothing but a folder.
  var isFolder: Bool { flags.map { Int32(bitPattern: $0) & CTRACE_O_DIRECTORY != 0 } ?? false }

  /// - Parameters:
  ///   - folder: what a relative path begins with; nil when that is not known.
  ///   - living: a process that sees the same files and still lives.
  init(_ path: [UInt8], in folder: [UInt8]?, living: Int32, flags: UInt32?) {
    self.path = path
    self.flags = flags
    absolute = Self.join(folder, path)
    place = absolute.map { "/proc/\(living)/root\(String(decoding: $0, as: UTF8.self))" }
  }

  /// An absolute path of one that may be relative to a folder; nil when the folder is not known.
  static func join(_ folder: [UInt8]?, _ path: [UInt8]) -> [UInt8]? {
    let slash = UInt8(ascii: "/")
    if path.first == slash { return path }
    guard var whole = folder else { return nil }
    var rest = path[...]
    // What refers to the folder itself or the one above it is left to the reader, but for the most common.
    while rest.starts(with: "./".utf8) { rest = rest.dropFirst(2).drop { $0 == slash } }
    if rest.isEmpty || rest.elementsEqual(".".utf8) { return whole }
    if whole.last != slash { whole.append(slash) }
    return whole + rest
  }

  /// Where a link of /proc leads, when that is a path.
  static func target(of link: String) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 4097)
    let count = buffer.withUnsafeMutableBytes { readlink(link, $0.baseAddress!.assumingMemoryBound(to: CChar.self), 4096) }
    return count > 0 && buffer[0] == UInt8(ascii: "/") ? Array(buffer[0..<count]) : nil
  }
}
