import CTrace
import Glibc

/// A file opened for reading at offsets.
final class ReadableFile {
  let path: String
  let sizeBytes: UInt64
  private let descriptor: Int32

  /// Opens a regular file; anything else is refused.
  convenience init(path: String) throws(TraceError) {
    let descriptor = ctrace_open(path, O_RDONLY | O_CLOEXEC, 0)
    guard descriptor >= 0 else { throw TraceError(path: path, "open it", errno: errno) }
    try self.init(path: path, descriptor: descriptor)
  }

  /// Takes an open regular file, which is closed at the end; `path` is what messages call it.
  init(path: String, descriptor: Int32) throws(TraceError) {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let code = errno
      close(descriptor)
      throw TraceError(path: path, "examine it", errno: code)
    }
    guard FileMode.kind(status.st_mode) == .regular else {
      close(descriptor)
      throw TraceError(.invalidInput, "\(PrintableText.escaped(path)): not a regular file")
    }
    self.path = path
    self.descriptor = descriptor
    sizeBytes = UInt64(status.st_size)
  }

  deinit { close(descriptor) }

  /// Reads up to `count` bytes at `offset`; fewer only at the end of the file.
  func read(_ count: Int, at offset: UInt64, into buffer: UnsafeMutableRawPointer) throws(TraceError) -> Int {
    var done = 0
    while done < count {
      let got = pread(descriptor, buffer + done, count - done, off_t(clamping: offset) + off_t(done))
      if got < 0, errno == EINTR { continue }
      if got < 0 { throw TraceError(path: path, "read it at byte \(offset)", errno: errno) }
      if got == 0 { break }
      done += got
    }
    return done
  }

  func bytes(_ count: Int, at offset: UInt64) throws(TraceError) -> [UInt8] {
    let available = offset < sizeBytes ? Int(min(UInt64(count), sizeBytes - offset)) : 0
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: max(available, 1), alignment: 8)
    defer { buffer.deallocate() }
    let got = try read(available, at: offset, into: buffer)
    return Array(UnsafeRawBufferPointer(start: buffer, count: got))
  }
}
