/// Rows of the file table: `length id (tag length value)*`, all numbers varints. Tags that a reader doesn't know are skipped.
enum TraceFileCoding {
  private enum Tag: UInt64 {
    case path = 1
    case kind = 2
    case device = 3
    case inode = 4
    case birthTime = 5
    case size = 6
    case openFlags = 7
    case filesystemType = 8
    case representedDevice = 9
  }

  /// Longest path that is stored or accepted, in bytes; Linux's own limit is 4,096.
  static let maximumPathBytes = 32_768

  static func append(_ file: TraceFile, to bytes: inout [UInt8]) {
    var row: [UInt8] = []
    Varint.append(UInt64(file.id), to: &row)
    func number(_ tag: Tag, _ value: UInt64?) {
      guard let value else { return }
      var encoded: [UInt8] = []
      Varint.append(value, to: &encoded)
      Varint.append(tag.rawValue, to: &row)
      Varint.append(UInt64(encoded.count), to: &row)
      row += encoded
    }
    let path = file.path.prefix(maximumPathBytes)
    Varint.append(Tag.path.rawValue, to: &row)
    Varint.append(UInt64(path.count), to: &row)
    row += path
    number(.kind, UInt64(file.kind.rawValue))
    number(.device, file.device)
    number(.inode, file.inode)
    number(.birthTime, file.birthTimeNanoseconds.map(Varint.zigzag))
    number(.size, file.sizeBytes)
    number(.openFlags, file.openFlags.map(UInt64.init))
    number(.filesystemType, file.filesystemType)
    number(.representedDevice, file.representedDevice)
    Varint.append(UInt64(row.count), to: &bytes)
    bytes += row
  }

  /// The rows in `bytes`, or nil when one of them is out of bounds.
  static func decode(_ bytes: UnsafeRawBufferPointer, count: Int) -> [TraceFile]? {
    guard let base = bytes.baseAddress else { return count == 0 ? [] : nil }
    var reader = BoundedReader(base, count: bytes.count)
    var files: [TraceFile] = []
    for _ in 0..<count {
      guard let length = reader.length(), let start = reader.bytes(length), let file = row(start, length) else { return nil }
      files.append(file)
    }
    return files
  }

  private static func row(_ start: UnsafePointer<UInt8>, _ length: Int) -> TraceFile? {
    var reader = BoundedReader(start, count: length)
    guard let id = reader.varint(), id < UInt64(UInt32.max) else { return nil }
    var file = TraceFile(id: UInt32(id), path: [])
    while reader.remaining > 0 {
      guard let tag = reader.varint(), let size = reader.length(), let value = reader.bytes(size) else { return nil }
      switch Tag(rawValue: tag) {
      case .path:
        guard size <= maximumPathBytes else { return nil }
        file.path = Array(UnsafeBufferPointer(start: value, count: size))
      case let known?:
        var field = BoundedReader(value, count: size)
        guard let number = field.varint() else { return nil }
        set(known, number, in: &file)
      case nil:
        continue
      }
    }
    return file
  }

  private static func set(_ tag: Tag, _ number: UInt64, in file: inout TraceFile) {
    switch tag {
    case .path: break
    case .kind: file.kind = TraceFile.Kind(rawValue: UInt8(truncatingIfNeeded: number)) ?? .unknown
    case .device: file.device = number
    case .inode: file.inode = number
    case .birthTime: file.birthTimeNanoseconds = Varint.unzigzag(number)
    case .size: file.sizeBytes = number
    case .openFlags: file.openFlags = UInt32(truncatingIfNeeded: number)
    case .filesystemType: file.filesystemType = number
    case .representedDevice: file.representedDevice = number
    }
  }
}
