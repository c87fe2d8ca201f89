import Glibc

/// The latencies of one side by request: sums of their logarithms and how many there were, so that several logs of a side give
/// the geometric mean. Flat memory of 9 bytes per place.
final class RequestLatencies {
  let sums: UnsafeMutablePointer<Double>
  let counts: UnsafeMutablePointer<UInt8>

  init(places: Int) {
    sums = .allocate(capacity: places)
    sums.initialize(repeating: 0, count: places)
    counts = .allocate(capacity: places)
    counts.initialize(repeating: 0, count: places)
  }

  deinit {
    sums.deallocate()
    counts.deallocate()
  }

  /// More than 255 latencies of one request don't count.
  @inline(__always)
  func add(_ place: Int, _ nanoseconds: Int64) {
    guard counts[place] < UInt8.max else { return }
    sums[place] += log(Double(nanoseconds))
    counts[place] &+= 1
  }

  /// Mean logarithm of a place that has one.
  @inline(__always)
  func mean(_ place: Int) -> Double { sums[place] / Double(counts[place]) }
}
