/// Which entry of a table the numbers of open files stand for. Numbers are given out one after another; old ones that are closed
/// are given up.
struct FileNumbers {
  /// Entry + 1 with `closedBit`, 0 for none; the first stands for `first`.
  private var recent: [UInt32] = []
  private var first = 0
  /// Numbers below `first` that are open still.
  private var old: [Int: UInt32] = [:]
  private static let closedBit: UInt32 = 1 << 31
  /// So many of the newest numbers stay, closed or not: a duplicate may be used after the descriptor that was closed.
  static let recentNumbers = 1 << 16

  /// One more than the largest number.
  var end: Int { first + recent.count }
  var count: Int { recent.count + old.count }

  /// Index of the entry + 1; 0 for a number that stands for none.
  func entry(of number: Int) -> UInt32 {
    if number >= first { return number < end ? recent[number - first] & ~Self.closedBit : 0 }
    return old[number] ?? 0
  }

  /// `entry` is an index + 1.
  mutating func set(_ number: Int, entry: UInt32, isOpen: Bool) {
    if number < first {
      old[number] = isOpen ? entry : nil
      return
    }
    if number >= end { recent.append(contentsOf: repeatElement(0, count: max(number + 1 - end, 1024))) }
    recent[number - first] = isOpen ? entry : entry | Self.closedBit
  }

  mutating func close(_ number: Int) {
    if number < first {
      old[number] = nil
    } else if number < end, recent[number - first] != 0 {
      recent[number - first] |= Self.closedBit
    }
  }

  /// The entries (index + 1) of all numbers that are open, some perhaps repeatedly.
  func forEachOpen(_ body: (UInt32) -> Void) {
    for entry in old.values { body(entry) }
    for entry in recent where entry != 0 && entry & Self.closedBit == 0 { body(entry) }
  }

  /// Entries get new indices + 1, or 0 when they are gone; old numbers that are closed are given up.
  mutating func renumber(_ new: (UInt32) -> UInt32) {
    old = old.mapValues(new).filter { $0.value != 0 }
    for position in recent.indices where recent[position] != 0 {
      let entry = new(recent[position] & ~Self.closedBit)
      recent[position] = entry == 0 ? 0 : entry | (recent[position] & Self.closedBit)
    }
    let surplus = recent.count - Self.recentNumbers
    guard surplus > 0 else { return }
    for position in 0..<surplus where recent[position] != 0 && recent[position] & Self.closedBit == 0 {
      old[first + position] = recent[position]
    }
    recent.removeFirst(surplus)
    first += surplus
  }
}
