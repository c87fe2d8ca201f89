import CTrace
import Glibc

/// Opens what is to be imported: files, the standard input for `-`, pipes, and any of them compressed with gzip.
///
/// Importers read at offsets, so what is no plain file is copied, unpacked, to a temporary file that has no name.
enum ImportInput {
  static func open(_ path: String) throws(TraceError) -> ReadableFile {
    let isInput = path == "-"
    let name = isInput ? "standard input" : path
    let descriptor = isInput ? dup(0) : ctrace_open(path, O_RDONLY | O_CLOEXEC, 0)
    guard descriptor >= 0 else { throw TraceError(path: name, "open it", errno: errno) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let code = errno
      close(descriptor)
      throw TraceError(path: name, "examine it", errno: code)
    }
    switch FileMode.kind(status.st_mode) {
    case .regular where !isInput && !isCompressed(descriptor): return try ReadableFile(path: name, descriptor: descriptor)
    case .regular, .pipe, .socket, .characterDevice: return try ReadableFile(path: name, descriptor: try copy(descriptor, name))
    default:
      close(descriptor)
      throw TraceError(.invalidInput, "\(PrintableText.escaped(name)): neither a file nor a pipe")
    }
  }

  private static func isCompressed(_ descriptor: Int32) -> Bool {
    var head: [UInt8] = [0, 0]
    return pread(descriptor, &head, 2, 0) == 2 && head == [0x1F, 0x8B]
  }

  /// A temporary file with what `descriptor`, which is closed, gives; gzip is unpacked, other bytes stay as they are.
  private static func copy(_ descriptor: Int32, _ name: String) throws(TraceError) -> Int32 {
    guard let stream = gzdopen(descriptor, "rb") else {
      close(descriptor)
      throw TraceError(path: name, "read it", errno: ENOMEM)
    }
    var isOpen = true
    defer { if isOpen { gzclose_r(stream) } }
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    let target = try temporaryFile(in: folder)
    do throws(TraceError) {
      try copy(stream, to: target, name, folder)
      isOpen = false
      // Only now does zlib tell that the end is missing.
      guard gzclose_r(stream) == Z_OK else { throw cut(name) }
    } catch {
      close(target)
      throw error
    }
    return target
  }

  private static func copy(_ stream: gzFile, to target: Int32, _ name: String, _ folder: String) throws(TraceError) {
    var buffer = [UInt8](repeating: 0, count: 1 << 18)
    while true {
      let count = Int(gzread(stream, &buffer, UInt32(buffer.count)))
      if count == 0 { return }
      guard count > 0 else {
        var code: Int32 = 0
        gzerror(stream, &code)
        if code == Z_ERRNO { throw TraceError(path: name, "read it", errno: errno) }
        if code == Z_BUF_ERROR { throw cut(name) }
        throw TraceError(.invalidInput, "\(PrintableText.escaped(name)): damaged gzip data")
      }
      var written = 0
      while written < count {
        let got = buffer.withUnsafeBytes { write(target, $0.baseAddress! + written, count - written) }
        if got < 0, errno == EINTR { continue }
        guard got > 0 else {
          throw TraceError(path: folder, "keep the unpacked input there", errno: got < 0 ? errno : EIO, hint: "TMPDIR names another folder")
        }
        written += got
      }
    }
  }

  private static func cut(_ name: String) -> TraceError {
    TraceError(.invalidInput, "\(PrintableText.escaped(name)): gzip data that is cut off")
  }

  private static func temporaryFile(in folder: String) throws(TraceError) -> Int32 {
    var template = Array("\(folder)/trace-record.import.XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else {
      throw TraceError(path: folder, "make a temporary file in it", errno: errno, hint: "TMPDIR names another folder")
    }
    unlink(template)
    return descriptor
  }
}
