import Glibc

/// Makes one sequence, in the order of time, of the events in several CPUs' pages. One thread's.
struct StreamMerge: ~Copyable {
  private struct Cursor {
    var page: RingPage
    /// What is left of records that are no pages.
    var records: CallRecords
    var isRecords = false
    var event: RingPage.Event
    var hasEvent = false
    var hasPage = false
    /// The page is the first behind a loss, or one of a round in which events were lost.
    var isBehindLoss = false
    /// Byte in the first of `queued` where the next page begins.
    var nextPage = 0
  }
  private let layout: RingPageLayout
  private let cursors: UnsafeMutablePointer<Cursor>
  private let count: Int
  private var queued: [[DrainedPages]]
  private var bounds: [UInt64]
  /// Pages that could not be decoded to their end.
  private(set) var malformedPages: UInt64 = 0
  private(set) var events: UInt64 = 0

  init(streams: Int, layout: RingPageLayout) {
    self.layout = layout
    count = streams
    cursors = .allocate(capacity: max(streams, 1))
    let nothing = UnsafeRawPointer(bitPattern: 8)!
    for i in 0..<streams {
      (cursors + i).initialize(
        to: Cursor(
          page: RingPage(nothing, length: 0, layout: layout), records: CallRecords(nothing, bytes: 0),
          event: RingPage.Event(nanoseconds: 0, bytes: nothing, length: 0)))
    }
    queued = Array(repeating: [], count: streams)
    bounds = Array(repeating: 0, count: streams)
  }

  deinit { cursors.deallocate() }

  /// Takes a round in. - Returns: the time before which everything is known now.
  mutating func absorb(_ round: DrainedRound) -> UInt64 {
    for (stream, pages) in round.pages { queued[stream].append(pages) }
    for i in 0..<count {
      bounds[i] = max(bounds[i], round.bounds[i])
      if !cursors[i].hasEvent { advance(i) }
    }
    return round.isLast ? UInt64.max : bounds.min() ?? UInt64.max
  }

  /// Gives `body` the events older than `bound`, oldest first: the stream, whether events were lost just before, the event.
  @inline(__always)
  mutating func drain(before bound: UInt64, _ body: (Int, Bool, RingPage.Event) -> Void) {
    while true {
      var earliest = -1
      var time = bound
      var nextTime = bound
      for i in 0..<count where cursors[i].hasEvent {
        let own = cursors[i].event.nanoseconds
        if own < time {
          nextTime = time
          time = own
          earliest = i
        } else if own < nextTime {
          nextTime = own
        }
      }
      guard earliest >= 0 else { return }
      // This stream goes on as long as it stays in front of the others.
      repeat {
        let behindLoss = cursors[earliest].isBehindLoss
        cursors[earliest].isBehindLoss = false
        events &+= 1
        body(earliest, behindLoss, cursors[earliest].event)
        advance(earliest)
      } while cursors[earliest].hasEvent && cursors[earliest].event.nanoseconds <= nextTime
        && cursors[earliest].event.nanoseconds < bound
    }
  }

  @inline(__always)
  private mutating func advance(_ i: Int) {
    let cursor = cursors + i
    if cursor.pointee.hasPage, let event = cursor.pointee.isRecords ? cursor.pointee.records.next() : cursor.pointee.page.next() {
      cursor.pointee.event = event
      cursor.pointee.hasEvent = true
      return
    }
    advancePage(i)
  }

  private mutating func advancePage(_ i: Int) {
    let cursor = cursors + i
    if cursor.pointee.hasPage, !cursor.pointee.isRecords, cursor.pointee.page.isMalformed { malformedPages += 1 }
    cursor.pointee.hasPage = false
    cursor.pointee.hasEvent = false
    while let pages = queued[i].first {
      guard cursor.pointee.nextPage < pages.count else {
        queued[i].removeFirst()
        cursor.pointee.nextPage = 0
        continue
      }
      if pages.content == .callRecords {
        cursor.pointee.records = CallRecords(pages.bytes, bytes: pages.count)
        cursor.pointee.nextPage = pages.count
        cursor.pointee.isBehindLoss = cursor.pointee.isBehindLoss || pages.isLossy
        cursor.pointee.isRecords = true
        guard let event = cursor.pointee.records.next() else { continue }
        cursor.pointee.event = event
        cursor.pointee.hasEvent = true
        cursor.pointee.hasPage = true
        return
      }
      cursor.pointee.page = RingPage(pages.bytes + cursor.pointee.nextPage, length: layout.pageBytes, layout: layout)
      cursor.pointee.nextPage += layout.pageBytes
      cursor.pointee.isBehindLoss = cursor.pointee.isBehindLoss || pages.isLossy || cursor.pointee.page.followsLoss
      if let event = cursor.pointee.page.next() {
        cursor.pointee.event = event
        cursor.pointee.hasEvent = true
        cursor.pointee.hasPage = true
        return
      }
      if cursor.pointee.page.isMalformed { malformedPages += 1 }
    }
  }
}
