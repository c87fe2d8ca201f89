import Glibc

/// The types and functions of the running kernel, as it describes them itself (BTF, Documentation/bpf/btf.rst of its source).
///
/// A program must say which type an address has that it reads through, by a number that is another one in each kernel.
struct KernelTypes {
  /// Kinds of entries (linux/btf.h), as far as they are looked for.
  enum Kind: UInt32 {
    case structure = 4
    case function = 12
  }
  static let path = "/sys/kernel/btf/vmlinux"

  private let bytes: [UInt8]
  /// Byte of each entry, by its number; the first has the number 1.
  private var places: [Int] = [0]
  private let names: Range<Int>

  /// - Throws: when the kernel does not describe its types, or not in a form that is known.
  init(path: String = Self.path) throws(TraceError) {
    guard let bytes = SmallFile.bytes(path, limitBytes: 64 << 20) else {
      throw TraceError(path: path, "read the kernel's types", errno: errno, hint: "it needs a kernel with CONFIG_DEBUG_INFO_BTF")
    }
    try self.init(bytes, path: path)
  }

  init(_ bytes: [UInt8], path: String) throws(TraceError) {
    self.bytes = bytes
    let header = 24
    // struct btf_header: magic 0xEB9F, version, flags, its length, then offset and length of the entries and of the names behind it.
    guard bytes.count >= header, Self.word(bytes, 0) & 0xFFFF == 0xEB9F, Self.word(bytes, 4) >= UInt32(header),
      let types = Self.section(bytes, at: 8), let names = Self.section(bytes, at: 16)
    else { throw TraceError(.unsupported, "\(path): not a description of types that is understood") }
    self.names = names
    var place = types.lowerBound
    while place + 12 <= types.upperBound {
      places.append(place)
      let information = Self.word(bytes, place + 4)
      guard let extra = Self.extraBytes(information) else {
        throw TraceError(.unsupported, "\(path): type \(places.count - 1) is of a kind that is not known (\(information >> 24 & 31))")
      }
      place += 12 + extra
    }
    guard place == types.upperBound else { throw TraceError(.unsupported, "\(path): its last type is cut") }
  }

  private static func section(_ bytes: [UInt8], at field: Int) -> Range<Int>? {
    let start = Int(word(bytes, 4)) + Int(word(bytes, field))
    let end = start + Int(word(bytes, field + 4))
    return end <= bytes.count ? start..<end : nil
  }

  @inline(__always)
  private static func word(_ bytes: [UInt8], _ place: Int) -> UInt32 {
    bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: place, as: UInt32.self) }
  }

  /// Bytes behind the three words that each entry begins with; nil for a kind that is not known.
  private static func extraBytes(_ information: UInt32) -> Int? {
    let count = Int(information & 0xFFFF)
    switch information >> 24 & 31 {
    // Pointers, forward declarations, names for types, qualifiers, functions, floating point, tags of types.
    case 2, 7, 8, 9, 10, 11, 12, 16, 18: return 0
    case 1, 14, 17: return 4
    case 3: return 12
    case 4, 5, 15, 19: return 12 * count
    case 6, 13: return 8 * count
    default: return nil
    }
  }

  // MARK: Looking things up

  /// The number of a structure or function.
  /// - Throws: when this kernel has none of the name.
  func number(_ kind: Kind, _ name: String) throws(TraceError) -> UInt32 {
    let wanted = Array(name.utf8)
    for number in 1..<max(places.count, 1)
    where Self.word(bytes, places[number] + 4) >> 24 & 31 == kind.rawValue && isNamed(places[number], wanted) {
      return UInt32(number)
    }
    throw TraceError(.unsupported, "this kernel's types have no '\(name)'")
  }

  /// Bytes from the beginning of a structure to a member, or to a member of one: `["thread_info", "status"]`.
  /// - Throws: when there is no such member, or it does not begin at a byte.
  func offset(of members: [String], in structure: UInt32) throws(TraceError) -> Int {
    var offset = 0
    var type = structure
    for (i, name) in members.enumerated() {
      guard let member = member(name, of: type), member.bits % 8 == 0 else {
        throw TraceError(
          .unsupported, "this kernel's types have no member '\(members[...i].joined(separator: "."))' where it is looked for")
      }
      offset += member.bits / 8
      type = member.type
    }
    return offset
  }

  private func member(_ name: String, of type: UInt32, depth: Int = 0) -> (type: UInt32, bits: Int)? {
    let structure = resolved(type)
    guard depth < 8, structure > 0, structure < places.count else { return nil }
    let place = places[structure]
    let information = Self.word(bytes, place + 4)
    guard information >> 24 & 31 == 4 || information >> 24 & 31 == 5 else { return nil }
    let wanted = Array(name.utf8)
    for i in 0..<Int(information & 0xFFFF) {
      let entry = place + 12 + 12 * i
      let position = Self.word(bytes, entry + 8)
      // With the flag set, bit fields are counted in the upper byte.
      let bits = Int(information >> 31 != 0 ? position & 0xFF_FFFF : position)
      let memberType = Self.word(bytes, entry + 4)
      if isNamed(entry, wanted) { return (memberType, bits) }
      // Members of a structure without a name count as the outer one's.
      if Self.word(bytes, entry) == 0, let inner = member(name, of: memberType, depth: depth + 1) { return (inner.type, bits + inner.bits) }
    }
    return nil
  }

  /// What a name for a type or a qualified one stands for.
  private func resolved(_ type: UInt32) -> Int {
    var type = Int(type)
    for _ in 0..<16 {
      guard type > 0, type < places.count else { return 0 }
      switch Self.word(bytes, places[type] + 4) >> 24 & 31 {
      case 8, 9, 10, 11, 18: type = Int(Self.word(bytes, places[type] + 8))
      default: return type
      }
    }
    return 0
  }

  /// Whether the entry whose first word says where its name stands has this name.
  private func isNamed(_ entry: Int, _ wanted: [UInt8]) -> Bool {
    let start = names.lowerBound + Int(Self.word(bytes, entry))
    guard start + wanted.count < names.upperBound else { return false }
    return bytes.withUnsafeBufferPointer { all in
      wanted.withUnsafeBufferPointer { memcmp(all.baseAddress! + start, $0.baseAddress!, wanted.count) == 0 }
        && all[start + wanted.count] == 0
    }
  }
}
