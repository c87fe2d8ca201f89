/// Walks the events of one page of a CPU's ring buffer, as trace_pipe_raw gives it.
///
/// The layout is that of include/linux/ring_buffer.h: a time, a word with the length and flags, then events. An event is a
/// 32-bit word, 5 bits of type and 27 of time since the event before, and its data. Nothing beyond the page is looked at,
/// whatever it holds.
struct RingPage {
  /// Events were lost in front of this page (bit 31 of the commit word).
  private(set) var followsLoss = false
  /// How many, when the page says so (bit 30: the count stands behind the data).
  private(set) var lostEvents: UInt64?
  /// Time of the first event's base, in nanoseconds of the trace clock.
  let startNanoseconds: UInt64
  /// The page did not decode to its end.
  private(set) var isMalformed = false
  private var time: UInt64
  private let data: UnsafeRawPointer
  private let count: Int
  private var position = 0

  /// - Parameters:
  ///   - page: its bytes.
  ///   - length: how many there are; less than `layout.pageBytes` for a page that was cut.
  init(_ page: UnsafeRawPointer, length: Int, layout: RingPageLayout) {
    guard length >= layout.dataOffset else {
      (startNanoseconds, time, data, count, isMalformed) = (0, 0, page, 0, true)
      return
    }
    startNanoseconds = page.loadUnaligned(fromByteOffset: layout.timestampOffset, as: UInt64.self)
    time = startNanoseconds
    data = page + layout.dataOffset
    let word =
      layout.commitBytes == 8
      ? UInt32(truncatingIfNeeded: page.loadUnaligned(fromByteOffset: layout.commitOffset, as: UInt64.self))
      : page.loadUnaligned(fromByteOffset: layout.commitOffset, as: UInt32.self)
    let room = length - layout.dataOffset
    let committed = Int(word & 0x07FF_FFFF)
    count = min(committed, room)
    isMalformed = committed > room
    followsLoss = word & 1 << 31 != 0
    if followsLoss, word & 1 << 30 != 0, count + 8 <= room { lostEvents = data.loadUnaligned(fromByteOffset: count, as: UInt64.self) }
  }

  struct Event {
    var nanoseconds: UInt64
    /// The event's bytes, which begin with `common_type`.
    var bytes: UnsafeRawPointer
    var length: Int
  }

  /// The next event; nil at the end of the page.
  @inline(__always)
  mutating func next() -> Event? {
    while position + 4 <= count {
      let header = data.loadUnaligned(fromByteOffset: position, as: UInt32.self)
      let delta = UInt64(header >> 5)
      position += 4
      switch header & 31 {
      case 29:
        guard let length = word(), delta != 0 else {
          // A null event: nothing but padding follows on this page.
          position = count
          return nil
        }
        // What was reserved and then discarded; a difference of 1 is a mark and no time (rb_event_discard).
        if delta != 1 { time &+= delta }
        position += 4
        skip(Int(length) - 4)
      case 30:
        guard let high = word() else { return malformed() }
        position += 4
        time &+= UInt64(high) << 27 &+ delta
      case 31:
        guard let high = word() else { return malformed() }
        position += 4
        time = Self.absolute(UInt64(high) << 27 &+ delta, after: time)
      case 0:
        guard let stated = word(), stated >= 4 else { return malformed() }
        position += 4
        return event(Int(stated) - 4, delta)
      case let words:
        return event(Int(words) * 4, delta)
      }
    }
    return nil
  }

  /// An absolute time has 59 bits; the upper five are those of the time before, one more when it would run backwards.
  private static func absolute(_ stamp: UInt64, after time: UInt64) -> UInt64 {
    let upper: UInt64 = 0xF8 << 56
    guard time & upper != 0 else { return stamp }
    let full = stamp | time & upper
    return full &+ (1 << 27) < time ? full &+ 1 << 59 : full
  }

  @inline(__always)
  private func word() -> UInt32? {
    position + 4 <= count ? data.loadUnaligned(fromByteOffset: position, as: UInt32.self) : nil
  }

  @inline(__always)
  private mutating func event(_ length: Int, _ delta: UInt64) -> Event? {
    guard position + length <= count else { return malformed() }
    time &+= delta
    let start = data + position
    position += (length + 3) & ~3
    return Event(nanoseconds: time, bytes: start, length: length)
  }

  private mutating func skip(_ length: Int) {
    if length < 0 || position + length > count { _ = malformed() } else { position += (length + 3) & ~3 }
  }

  private mutating func malformed() -> Event? {
    isMalformed = true
    position = count
    return nil
  }
}
