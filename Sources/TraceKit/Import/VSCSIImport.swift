extension ImportFormat {
  /// VMware vscsiStats binaries as CloudPhysics published them, versions 1 and 2.
  static let vscsi = ImportFormat(
    name: "vscsi", summary: "CloudPhysics vscsi binary, versions 1 and 2",
    recognizes: { head, sizeBytes in VSCSILayout.detect(head, sizeBytes: sizeBytes) != nil },
    open: { input, context throws(TraceError) in try VSCSIReader(input, context) })
}

/// Byte positions in a record; all numbers are little-endian. Times are microseconds, lengths bytes, addresses sectors of
/// 512 bytes.
private struct VSCSILayout {
  let version: Int
  let recordBytes: Int
  let lengthAt: Int
  let commandAt: Int
  let versionAt: Int
  let addressAt: Int
  let timeAt: Int
  /// u64 response time in microseconds, in version 2.
  let responseAt: Int?

  /// u32 serial, u32 length, u32 segments, u16 command, u16 version, u64 address, u64 time.
  static let version1 = VSCSILayout(
    version: 1, recordBytes: 32, lengthAt: 4, commandAt: 12, versionAt: 14, addressAt: 16, timeAt: 24, responseAt: nil)
  /// u16 command, u16 version, u32 serial, u32 length, u32 segments, u64 address, u64 time, u64 response time.
  static let version2 = VSCSILayout(
    version: 2, recordBytes: 40, lengthAt: 8, commandAt: 0, versionAt: 2, addressAt: 16, timeAt: 24, responseAt: 32)

  /// The layout by whose version field (high byte 1 or 2) the first two records agree; version 2 is tried first.
  static func detect(_ head: [UInt8], sizeBytes: UInt64) -> VSCSILayout? {
    [version2, version1].first { layout in
      let records = min(2, Int(min(sizeBytes, 1 << 20)) / layout.recordBytes)
      return records > 0
        && (0..<records).allSatisfy { number in
          let start = number * layout.recordBytes
          guard let version = head.littleEndian(start + layout.versionAt, as: UInt16.self),
            let command = head.littleEndian(start + layout.commandAt, as: UInt16.self)
          else { return false }
          return Int(version >> 8) == layout.version && command <= 0xFF
        }
    }
  }
}

private final class VSCSIReader: ImportReader {
  private let input: ReadableFile
  private let context: ImportContext
  private let layout: VSCSILayout
  private let file: UInt32
  private let name: String
  private var position: UInt64 = 0
  private var record: UInt64 = 0
  private let buffer: UnsafeMutableRawPointer
  private static let bufferRecords = 4096

  init(_ input: ReadableFile, _ context: ImportContext) throws(TraceError) {
    guard let layout = VSCSILayout.detect(try input.bytes(80, at: 0), sizeBytes: input.sizeBytes) else {
      throw TraceError(.invalidInput, "\(PrintableText.escaped(input.path)): not a vscsi binary")
    }
    self.input = input
    self.context = context
    self.layout = layout
    name = input.path
    // The format does not name the disk; the input's name tells several apart.
    let base = input.path.split(separator: "/").last.map { Array($0.utf8) } ?? Array("disk".utf8)
    file = context.file(base, kind: .blockDevice)
    buffer = .allocate(byteCount: Self.bufferRecords * layout.recordBytes, alignment: 8)
    context.assume("vscsi version \(layout.version), little-endian; time in µs, length in bytes, address in sectors of 512 bytes")
  }

  deinit { buffer.deallocate() }

  func read(into events: inout [TraceEvent]) throws(TraceError) -> Bool {
    events.removeAll(keepingCapacity: true)
    while events.isEmpty {
      let got = try input.read(Self.bufferRecords * layout.recordBytes, at: position, into: buffer)
      if got == 0 { return false }
      position += UInt64(got)
      for number in 0..<got / layout.recordBytes {
        decode(UnsafeRawPointer(buffer + number * layout.recordBytes), into: &events)
        record += 1
      }
      if got % layout.recordBytes != 0 {
        context.reject(name, record, "cut off: \(got % layout.recordBytes) of \(layout.recordBytes) bytes")
        return !events.isEmpty
      }
    }
    return true
  }

  private func decode(_ bytes: UnsafeRawPointer, into events: inout [TraceEvent]) {
    guard Int(bytes.littleEndian(layout.versionAt, as: UInt16.self) >> 8) == layout.version else {
      return context.reject(name, record, "its version is not \(layout.version)")
    }
    guard let operation = operation(bytes.littleEndian(layout.commandAt, as: UInt16.self)) else { return }
    let sector = bytes.littleEndian(layout.addressAt, as: UInt64.self)
    let time = bytes.littleEndian(layout.timeAt, as: UInt64.self)
    guard sector < 1 << 54 else { return context.reject(name, record, "sector \(sector) is out of range") }
    guard let start = start(time) else { return context.reject(name, record, "time \(time) µs is out of range") }
    var event = TraceEvent(
      startNanoseconds: start, operation: operation, file: file, offsetBytes: sector * 512,
      sizeBytes: UInt64(bytes.littleEndian(layout.lengthAt, as: UInt32.self)))
    if let responseAt = layout.responseAt {
      let response = bytes.littleEndian(responseAt, as: UInt64.self)
      if response <= UInt64(Int64.max / 1000) { event.latencyNanoseconds = Int64(response) * 1000 }
    }
    events.append(event)
  }

  /// READ and WRITE of 6, 10, 12 and 16 bytes; anything else is dropped by kind.
  private func operation(_ command: UInt16) -> TraceOperation? {
    switch command {
    case 0x08, 0x28, 0x88, 0xA8: return .read
    case 0x0A, 0x2A, 0x8A, 0xAA: return .write
    default:
      context.drop("scsi_0x" + (command < 16 ? "0" : "") + String(command, radix: 16))
      return nil
    }
  }

  /// Nanoseconds since the first request of all inputs.
  private func start(_ microseconds: UInt64) -> Int64? {
    guard microseconds <= UInt64(Int64.max / 1000) else { return nil }
    if context.base == nil { setBase(microseconds) }
    return Int64(microseconds) * 1000 - Int64(context.base ?? 0) * 1000
  }

  private func setBase(_ microseconds: UInt64) {
    context.base = microseconds
    // 2000-01-01 … 2100-01-01: nothing else is likely to be wall-clock time.
    if (946_684_800_000_000...4_102_444_800_000_000).contains(microseconds) {
      context.epochUnixNanoseconds = Int64(microseconds) * 1000
      context.assume("times are microseconds since 1970-01-01 UTC")
    } else {
      context.assume("time 0 is the first request, \(microseconds) µs on the source's clock, which is not wall-clock time")
    }
  }
}
