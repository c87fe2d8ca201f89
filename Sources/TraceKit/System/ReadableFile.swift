import CTrace
import Glibc

/// A file opened for reading at offsets.
final class ReadableFile {
  let path: String
  let sizeBytes: UInt64
  private let descriptor: Int32

  /// Opens a regular file or block device; a directory is refused.
  init(path: String) throws(TraceError) {
    self.path = path
    descriptor = ctrace_open(path, O_RDONLY | O_CLOEXEC, 0)
    guard descriptor >= 0 else { throw TraceError(path: path, "open it", errno: errno) }
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
