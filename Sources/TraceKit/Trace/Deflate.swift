import CTrace

/// A raw deflate stream that is set up once and reset for each piece.
struct Deflater: ~Copyable {
  private let stream: UnsafeMutablePointer<z_stream>

  /// `level` 0–9, as in zlib; `huffmanOnly` does not search for repetitions.
  init(level: Int32, huffmanOnly: Bool = false) {
    stream = .allocate(capacity: 1)
    stream.initialize(to: z_stream())
    precondition(ctrace_deflate_init_raw(stream, level, huffmanOnly ? Z_HUFFMAN_ONLY : Z_DEFAULT_STRATEGY) == Z_OK, "zlib cannot be set up")
  }

  deinit {
    deflateEnd(stream)
    stream.deallocate()
  }

  /// Compresses `count` bytes into `output`; nil when they don't fit into `capacity`.
  mutating func compress(
    _ input: UnsafePointer<UInt8>, count: Int, into output: UnsafeMutablePointer<UInt8>, capacity: Int
  ) -> Int? {
    deflateReset(stream)
    stream.pointee.next_in = UnsafeMutablePointer(mutating: input)
    stream.pointee.avail_in = UInt32(count)
    stream.pointee.next_out = output
    stream.pointee.avail_out = UInt32(capacity)
    guard deflate(stream, Z_FINISH) == Z_STREAM_END else { return nil }
    return capacity - Int(stream.pointee.avail_out)
  }
}

/// The reading side of `Deflater`.
struct Inflater: ~Copyable {
  private let stream: UnsafeMutablePointer<z_stream>

  init() {
    stream = .allocate(capacity: 1)
    stream.initialize(to: z_stream())
    precondition(ctrace_inflate_init_raw(stream) == Z_OK, "zlib cannot be set up")
  }

  deinit {
    inflateEnd(stream)
    stream.deallocate()
  }

  /// Expands `count` bytes into exactly `expected` bytes of `output`; false when the data give anything else.
  mutating func expand(
    _ input: UnsafePointer<UInt8>, count: Int, into output: UnsafeMutablePointer<UInt8>, expected: Int
  ) -> Bool {
    inflateReset(stream)
    stream.pointee.next_in = UnsafeMutablePointer(mutating: input)
    stream.pointee.avail_in = UInt32(count)
    stream.pointee.next_out = output
    stream.pointee.avail_out = UInt32(expected)
    let status = inflate(stream, Z_FINISH)
    return status == Z_STREAM_END && stream.pointee.avail_out == 0 && stream.pointee.avail_in == 0
  }
}
