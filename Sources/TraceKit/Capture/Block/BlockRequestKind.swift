/// What the letters of `rwbs` say of a block request (blk_fill_rwbs of the kernel).
struct BlockRequestKind: Hashable {
  /// Nil for kinds that are not recorded.
  var operation: TraceOperation?
  var isForced = false

  /// Reads the letters up to the first zero byte.
  init(_ letters: UnsafeRawBufferPointer, hasData: Bool) {
    var position = 0
    func letter(_ number: Int) -> UInt8 { number < letters.count ? letters[number] : 0 }
    let operations = Array("RWDFNZ".utf8)
    // A leading F is a flush in front of the request, unless nothing else follows that says what it is.
    if letter(0) == UInt8(ascii: "F"), operations.contains(letter(1)) { position = 1 }
    switch letter(position) {
    case UInt8(ascii: "R"): operation = .read
    case UInt8(ascii: "W"): operation = letter(position + 1) == UInt8(ascii: "Z") ? .writeZeroes : .write
    case UInt8(ascii: "D"): operation = .discard
    case UInt8(ascii: "F"): operation = .flush
    // Kernels without a letter for zeroing write N, as for what is passed through to the drive, which names no sectors.
    case UInt8(ascii: "N"): operation = hasData ? .writeZeroes : nil
    default: operation = nil
    }
    position += 1
    while letter(position) != 0 {
      if letter(position) == UInt8(ascii: "F") { isForced = true }
      position += 1
    }
  }
}
