/// Where a target takes the bytes of a recorded file: moved by an offset and, where the target is smaller than what was recorded,
/// wrapped or scaled into its room.
struct TargetPlacement: BitwiseCopyable, Equatable, Sendable {
  private enum Fit: UInt8, BitwiseCopyable { case plain, modulo, scale }

  /// What is added to every offset.
  private(set) var offsetBytes: Int64
  private var roomBytes: Int64 = 0
  private var spanBytes: Int64 = 0
  private var fit = Fit.plain

  init(offsetBytes: Int64 = 0) { self.offsetBytes = offsetBytes }

  /// - Parameters:
  ///   - roomBytes: bytes of the target behind `offsetBytes`; at least the longest request.
  ///   - spanBytes: end of the furthest recorded byte.
  init(offsetBytes: Int64, wrap: TargetWrap, roomBytes: Int64, spanBytes: Int64) {
    self.offsetBytes = offsetBytes
    self.roomBytes = roomBytes
    self.spanBytes = max(1, spanBytes)
    fit = wrap == .modulo ? .modulo : wrap == .scale ? .scale : .plain
  }

  /// Every offset stays as it was recorded.
  var isIdentity: Bool { offsetBytes == 0 && fit == .plain }

  /// Bytes that follow each other in the recorded file do so on the target.
  var keepsDistances: Bool { fit == .plain }

  /// The furthest end on the target of requests that end at most at `end`.
  func reach(_ end: Int64) -> Int64 { fit == .plain ? offsetBytes &+ end : offsetBytes &+ roomBytes }

  /// The target's offset for a request.
  @inline(__always)
  func place(_ offset: Int64, _ length: Int) -> Int64 { isIdentity ? offset : moved(offset, length) }

  /// Alignment is kept where the recorded offset had one, up to 4096 bytes, so that O_DIRECT takes what it took.
  @inline(never)
  private func moved(_ offset: Int64, _ length: Int) -> Int64 {
    let unit: Int64 = offset & 4095 == 0 ? 4096 : offset & 511 == 0 ? 512 : 1
    var place = offset
    switch fit {
    case .plain: return offsetBytes &+ offset
    case .modulo: place = offset % max(unit, roomBytes / unit * unit)
    case .scale:
      let product = UInt64(offset).multipliedFullWidth(by: UInt64(roomBytes))
      place = offset >= spanBytes ? roomBytes : Int64(UInt64(spanBytes).dividingFullWidth(product).quotient)
      place = place / unit * unit
    }
    if place > roomBytes - Int64(length) { place = max(0, roomBytes - Int64(length)) / unit * unit }
    return offsetBytes &+ place
  }
}
