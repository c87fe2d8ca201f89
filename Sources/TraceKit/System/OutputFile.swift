import CTrace
import Glibc

/// A file, or the standard output, that is written from front to end through a buffer.
public final class OutputFile {
  public let path: String
  private let descriptor: Int32
  private let owned: Bool
  private let buffer: UnsafeMutablePointer<UInt8>
  private var count = 0
  private static let capacity = 1 << 16
  /// Bytes handed over so far.
  public private(set) var sizeBytes: UInt64 = 0

  /// The standard output.
  public init() {
    path = "standard output"
    descriptor = STDOUT_FILENO
    owned = false
    buffer = .allocate(capacity: Self.capacity)
  }

  /// Creates a file with mode 0666 less the umask.
  /// - Throws: when it exists and `overwrite` is not set, is not a regular file, or can't be created.
  public init(path: String, overwrite: Bool) throws(TraceError) {
    self.path = path
    if overwrite, let status = Self.status(path), FileMode.kind(status.st_mode) != .regular {
      throw TraceError(.refused, "\(PrintableText.escaped(path)): not a regular file, so it is not replaced")
    }
    let mode = O_WRONLY | O_CREAT | O_CLOEXEC | (overwrite ? O_TRUNC : O_EXCL)
    let opened = ctrace_open(path, mode, 0o666)
    if opened < 0 {
      let code = errno
      if code == EEXIST { throw TraceError(.refused, "\(PrintableText.escaped(path)): exists already; --force replaces it") }
      throw TraceError(path: path, "create it", errno: code)
    }
    descriptor = opened
    owned = true
    buffer = .allocate(capacity: Self.capacity)
  }

  deinit {
    if owned { close(descriptor) }
    buffer.deallocate()
  }

  /// Writes `text` to the file at `path`, which is replaced, or to the standard output for `-`.
  public static func write(_ text: String, to path: String) throws(TraceError) {
    let output = path == "-" ? OutputFile() : try OutputFile(path: path, overwrite: true)
    try output.append(text)
    try output.flush()
  }

  /// Refuses an output that is the same file as an input.
  public static func refuseSame(_ output: String, as input: String) throws(TraceError) {
    guard output != "-", let a = status(output), let b = status(input), a.st_dev == b.st_dev, a.st_ino == b.st_ino else { return }
    throw TraceError(.refused, "\(PrintableText.escaped(output)): the output is the input \(PrintableText.escaped(input)) itself")
  }

  private static func status(_ path: String) -> stat? {
    var status = stat()
    return stat(path, &status) == 0 ? status : nil
  }

  public func append(_ text: String) throws(TraceError) {
    for byte in text.utf8 { try append(byte) }
  }

  public func append(_ bytes: some Sequence<UInt8>) throws(TraceError) {
    for byte in bytes { try append(byte) }
  }

  @inline(__always)
  public func append(_ byte: UInt8) throws(TraceError) {
    if count == Self.capacity { try flush() }
    buffer[count] = byte
    count += 1
  }

  /// A number in decimal.
  public func append(decimal value: UInt64) throws(TraceError) {
    if count + 20 > Self.capacity { try flush() }
    var digits = 1
    var bound: UInt64 = 10
    while value >= bound {
      digits += 1
      let (next, overflow) = bound.multipliedReportingOverflow(by: 10)
      if overflow { break }
      bound = next
    }
    var rest = value
    for position in stride(from: count + digits - 1, through: count, by: -1) {
      buffer[position] = UInt8(truncatingIfNeeded: rest % 10) + 0x30
      rest /= 10
    }
    count += digits
  }

  /// A number in decimal.
  public func append(decimal value: Int64) throws(TraceError) {
    if value < 0 { try append(0x2D as UInt8) }
    try append(decimal: value.magnitude)
  }

  /// Writes what is buffered.
  /// - Throws: the system's error; EPIPE when the reader of a pipe has gone.
  public func flush() throws(TraceError) {
    var written = 0
    defer { count = 0 }
    while written < count {
      let got = Glibc.write(descriptor, buffer + written, count - written)
      if got < 0, errno == EINTR { continue }
      if got <= 0 { throw TraceError(path: path, "write to it", errno: got < 0 ? errno : EIO) }
      written += got
    }
    sizeBytes += UInt64(count)
  }
}
