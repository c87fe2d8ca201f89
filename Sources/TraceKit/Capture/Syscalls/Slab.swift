/// Plain values in one piece of memory, found by number; freed numbers are used again.
struct Slab<Element: BitwiseCopyable>: ~Copyable {
  private var base: UnsafeMutablePointer<Element>
  private var capacity: Int
  private var used = 0
  private var free: [Int32] = []

  init(capacity: Int = 256) {
    self.capacity = capacity
    base = .allocate(capacity: capacity)
  }

  deinit { base.deallocate() }

  mutating func add(_ element: Element) -> Int32 {
    if let number = free.popLast() {
      base[Int(number)] = element
      return number
    }
    if used == capacity {
      let larger = UnsafeMutablePointer<Element>.allocate(capacity: capacity * 2)
      larger.update(from: base, count: used)
      base.deallocate()
      base = larger
      capacity *= 2
    }
    base[used] = element
    used += 1
    return Int32(used - 1)
  }

  mutating func remove(_ number: Int32) { free.append(number) }

  /// Where the value stands until the next `add`.
  @inline(__always)
  subscript(_ number: Int32) -> UnsafeMutablePointer<Element> { base + Int(number) }
}
