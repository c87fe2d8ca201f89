/// What a `format` file of tracefs says of an event: its number, and where its fields are.
struct TraceEventFormat: Sendable {
  struct Field: Hashable, Sendable {
    var name: String
    var offset: Int
    var size: Int
    var isSigned: Bool
    /// The field is 4 bytes: the offset of the data in its low 16 bits, the length in its high ones (`__data_loc`).
    var isIndirect: Bool

    /// The field's value in an event's bytes; 0 when they are too short for it.
    @inline(__always)
    func value(_ event: UnsafeRawPointer, _ length: Int) -> Int64 {
      guard offset + size <= length else { return 0 }
      switch (size, isSigned) {
      case (8, _): return event.loadUnaligned(fromByteOffset: offset, as: Int64.self)
      case (4, true): return Int64(event.loadUnaligned(fromByteOffset: offset, as: Int32.self))
      case (4, false): return Int64(event.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
      case (2, true): return Int64(event.loadUnaligned(fromByteOffset: offset, as: Int16.self))
      case (2, false): return Int64(event.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
      case (1, true): return Int64(event.load(fromByteOffset: offset, as: Int8.self))
      case (1, false): return Int64(event.load(fromByteOffset: offset, as: UInt8.self))
      default: return 0
      }
    }
  }
  let event: String
  /// `common_type` of its events.
  let number: UInt16
  let fields: [Field]

  /// Reads the text of a `format` file.
  /// - Throws: when it has no number or a field can't be understood.
  init(_ text: String, event: String) throws(TraceError) {
    self.event = event
    var number: UInt16?
    var fields: [Field] = []
    for line in text.split(separator: "\n") {
      if line.hasPrefix("ID:") { number = UInt16(line.dropFirst(3).drop { $0 == " " }) }
      let trimmed = line.drop { $0 == "\t" || $0 == " " }
      guard trimmed.hasPrefix("field:") else { continue }
      guard let field = Self.field(trimmed) else {
        throw TraceError(
          .unsupported, "tracefs: the format of \(event) has a field that is not understood: \(PrintableText.escaped(String(trimmed)))")
      }
      fields.append(field)
    }
    guard let number else { throw TraceError(.unsupported, "tracefs: the format of \(event) has no number") }
    self.number = number
    self.fields = fields
  }

  /// `field:__data_loc char[] cmd;	offset:44;	size:4;	signed:0;`
  static func field(_ line: Substring) -> Field? {
    var values: [Substring: Substring] = [:]
    for part in line.split(separator: ";") {
      let trimmed = part.drop { $0 == "\t" || $0 == " " }
      guard let colon = trimmed.firstIndex(of: ":") else { continue }
      values[trimmed[..<colon]] = trimmed[trimmed.index(after: colon)...]
    }
    guard let declaration = values["field"], let offset = values["offset"].flatMap({ Int($0) }),
      let size = values["size"].flatMap({ Int($0) }), offset >= 0, size >= 0, offset + size <= 1 << 16,
      let word = declaration.split(separator: " ").last
    else { return nil }
    let name = word.prefix { $0 != "[" }
    return Field(
      name: String(name), offset: offset, size: size, isSigned: values["signed"] == "1", isIndirect: declaration.hasPrefix("__data_loc"))
  }

  /// The field of that name.
  /// - Throws: when this kernel's event has none.
  func field(_ name: String) throws(TraceError) -> Field {
    guard let field = fields.first(where: { $0.name == name }) else {
      throw TraceError(.unsupported, "tracefs: \(event) of this kernel has no field '\(name)'")
    }
    return field
  }

  /// Fields of the event itself, without those that all events have.
  var ownFields: [Field] { fields.filter { !$0.name.hasPrefix("common_") } }
}
