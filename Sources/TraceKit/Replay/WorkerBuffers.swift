import CTrace

/// Memory that one worker reads into: a piece per slot, and one for all requests that are longer than a piece. It is mapped, so
/// only what is used takes memory.
struct WorkerBuffers {
  private static let maximumPieceBytes = 1 << 20
  private let pieceBytes: Int
  private let large: UnsafeMutableRawBufferPointer
  /// The pieces.
  let arena: UnsafeMutableRawBufferPointer

  /// - Parameters:
  ///   - largestBytes: the longest request; 0 when there are none.
  ///   - isExclusive: no two requests share memory, however long they are.
  init(largestBytes: Int, slots: Int, isExclusive: Bool = false) {
    let page = 4096
    let rounded = (max(largestBytes, 1) + page - 1) / page * page
    pieceBytes = slots == 1 || isExclusive ? rounded : min(rounded, Self.maximumPieceBytes)
    arena = largestBytes == 0 ? UnsafeMutableRawBufferPointer(start: nil, count: 0) : Self.map(pieceBytes * slots)
    large = rounded > pieceBytes ? Self.map(rounded) : UnsafeMutableRawBufferPointer(start: nil, count: 0)
  }

  private static func map(_ bytes: Int) -> UnsafeMutableRawBufferPointer {
    guard let memory = ctrace_map_memory(bytes) else { fatalError("out of address space: \(bytes) bytes for buffers") }
    return UnsafeMutableRawBufferPointer(start: memory, count: bytes)
  }

  func deallocate() {
    for region in [arena, large] { if let start = region.baseAddress { munmap(start, region.count) } }
  }

  /// Memory of a slot for a request of `bytes`.
  @inline(__always)
  func memory(slot: Int, bytes: Int) -> UnsafeMutableRawPointer? {
    bytes > pieceBytes ? large.baseAddress : arena.baseAddress.map { $0 + slot &* pieceBytes }
  }
}
