import CTrace

/// A small picture of up to 256 colours, as a PNG file (ISO/IEC 15948): the cells of heat maps.
struct PaletteImage {
  /// Red, green, blue and opacity.
  struct Colour: Equatable {
    var red: UInt8
    var green: UInt8
    var blue: UInt8
    var opacity: UInt8
  }

  let width: Int
  let height: Int
  let palette: [Colour]
  /// Index into the palette, row by row from the top.
  private var pixels: [UInt8]

  /// All pixels have the first colour of the palette, which has 1 to 256.
  init(width: Int, height: Int, palette: [Colour]) {
    precondition(width > 0 && height > 0 && !palette.isEmpty && palette.count <= 256)
    self.width = width
    self.height = height
    self.palette = palette
    pixels = Array(repeating: 0, count: width * height)
  }

  subscript(column: Int, row: Int) -> UInt8 {
    get { pixels[row * width + column] }
    set { pixels[row * width + column] = newValue }
  }

  /// The picture as a file.
  var png: [UInt8] {
    var rows: [UInt8] = []
    rows.reserveCapacity((width + 1) * height)
    for row in 0..<height {
      rows.append(0)  // no filter: neighbours have unrelated palette indices
      rows += pixels[row * width..<(row + 1) * width]
    }
    var file: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    // 8 bits a pixel, colour type 3 (palette), deflate, no interlace.
    Self.append("IHDR", Self.bigEndian(width) + Self.bigEndian(height) + [8, 3, 0, 0, 0], to: &file)
    Self.append("PLTE", palette.flatMap { [$0.red, $0.green, $0.blue] }, to: &file)
    Self.append("tRNS", palette.map(\.opacity), to: &file)
    Self.append("IDAT", ZlibStream.compressed(rows), to: &file)
    Self.append("IEND", [], to: &file)
    return file
  }

  private static func append(_ name: StaticString, _ data: [UInt8], to file: inout [UInt8]) {
    let body = Array("\(name)".utf8) + data
    let check = body.withUnsafeBufferPointer { crc32(0, $0.baseAddress, UInt32($0.count)) }
    file += bigEndian(data.count) + body + bigEndian(Int(check))
  }

  private static func bigEndian(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
}

/// Data as a zlib stream (RFC 1950).
enum ZlibStream {
  static func compressed(_ data: [UInt8]) -> [UInt8] {
    var length = compressBound(UInt(data.count))
    var output = [UInt8](repeating: 0, count: Int(length))
    precondition(compress2(&output, &length, data, UInt(data.count), 9) == Z_OK, "the output is as long as zlib asks for")
    return Array(output.prefix(Int(length)))
  }
}
