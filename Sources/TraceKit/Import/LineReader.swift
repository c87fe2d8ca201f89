import Glibc

/// The lines of a file as bytes, read through one buffer, so that memory is bounded whatever a line's length.
final class LineReader {
  /// Number of the last line, counted from 1.
  private(set) var number: UInt64 = 0
  /// The last line was longer than the limit; its beginning is what `next` gave.
  private(set) var wasTooLong = false
  private let file: ReadableFile
  private let limit: Int
  private let buffer: UnsafeMutablePointer<UInt8>
  private let capacity: Int
  private var start = 0
  private var end = 0
  private var position: UInt64 = 0
  private var atEnd = false

  /// Lines of more than `limitBytes` are given cut off.
  init(_ file: ReadableFile, limitBytes: Int) {
    self.file = file
    limit = limitBytes
    capacity = max(1 << 18, 2 * limitBytes + 2)
    buffer = .allocate(capacity: capacity)
  }

  deinit { buffer.deallocate() }

  /// The next line without `\n` or `\r\n`, valid until the next call; nil at the end.
  func next() throws(TraceError) -> UnsafeBufferPointer<UInt8>? {
    wasTooLong = false
    guard let length = try findEnd() else { return nil }
    number += 1
    let line = buffer + start
    start += length
    if length > 0, line[length - 1] == 0x0A { return trimmed(line, length - 1) }
    if length > limit {
      wasTooLong = true
      try skipRest()
      return UnsafeBufferPointer(start: line, count: 0)
    }
    return trimmed(line, length)
  }

  private func trimmed(_ line: UnsafeMutablePointer<UInt8>, _ length: Int) -> UnsafeBufferPointer<UInt8> {
    if length > limit { wasTooLong = true }
    let count = length > 0 && line[length - 1] == 0x0D ? length - 1 : length
    return UnsafeBufferPointer(start: line, count: min(count, limit))
  }

  /// Length of the next line with its end; that of its first `limit` + 1 bytes or more when the buffer has no end of it.
  private func findEnd() throws(TraceError) -> Int? {
    var searched = 0
    while true {
      if end > start + searched, let found = memchr(buffer + start + searched, 0x0A, end - start - searched) {
        return found.assumingMemoryBound(to: UInt8.self) - (buffer + start) + 1
      }
      searched = end - start
      if searched > limit { return searched }
      if atEnd { return searched > 0 ? searched : nil }
      try fill()
    }
  }

  private func fill() throws(TraceError) {
    if start > 0 {
      memmove(buffer, buffer + start, end - start)
      end -= start
      start = 0
    }
    let got = try file.read(capacity - end, at: position, into: buffer + end)
    position += UInt64(got)
    end += got
    atEnd = got == 0
  }

  private func skipRest() throws(TraceError) {
    while true {
      if end > start, let found = memchr(buffer + start, 0x0A, end - start) {
        start = found.assumingMemoryBound(to: UInt8.self) - buffer + 1
        return
      }
      start = end
      if atEnd { return }
      try fill()
    }
  }
}

/// Words of a line, separated by blanks and tabs.
struct LineWords {
  private let line: UnsafeBufferPointer<UInt8>
  private var position = 0

  init(_ line: UnsafeBufferPointer<UInt8>) { self.line = line }

  /// The next word, or nil at the end of the line.
  mutating func next() -> Slice<UnsafeBufferPointer<UInt8>>? {
    while position < line.count, line[position] == 0x20 || line[position] == 0x09 { position += 1 }
    guard position < line.count else { return nil }
    let start = position
    while position < line.count, line[position] != 0x20, line[position] != 0x09 { position += 1 }
    return line[start..<position]
  }
}

extension Slice<UnsafeBufferPointer<UInt8>> {
  /// The word as an unsigned decimal number, or nil when it is anything else or does not fit.
  var decimal: UInt64? {
    guard !isEmpty, count <= 20 else { return nil }
    var value: UInt64 = 0
    for byte in self {
      guard byte >= 0x30, byte <= 0x39 else { return nil }
      let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = tens.addingReportingOverflow(UInt64(byte - 0x30))
      if overflow || carry { return nil }
      value = sum
    }
    return value
  }

  /// The word is `text`, which is ASCII.
  func spells(_ text: StaticString) -> Bool {
    count == text.utf8CodeUnitCount && memcmp(base.baseAddress! + startIndex, text.utf8Start, count) == 0
  }

  /// The word's bytes are those of `other`.
  func equals(_ other: [UInt8]) -> Bool {
    count == other.count && other.withUnsafeBytes { memcmp(base.baseAddress! + startIndex, $0.baseAddress!, count) == 0 }
  }
}
