import Glibc

/// Messages for people, next to standard output, which is one document or nothing.
public enum StandardError {
  public static func write(_ text: String) {
    var bytes = Array(text.utf8)
    while !bytes.isEmpty {
      let count = Glibc.write(2, bytes, bytes.count)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return }
      bytes.removeFirst(count)
    }
  }

  /// It is a terminal.
  public static var isTerminal: Bool { isatty(2) == 1 }
}
