import Glibc

/// Log ratios of paired requests in buckets of equal width (0.1 %), so that a median is known to 0.05 %.
final class ChangeHistogram {
  private static let perUnit = 1000.0
  /// Beyond e^±16 (a factor of nine millions) the last bucket counts.
  private static let limit = 16.0
  private static let buckets = Int(2 * limit * perUnit) + 1
  private let counts: UnsafeMutablePointer<UInt32>
  private(set) var count: UInt64 = 0
  private var slower: UInt64 = 0
  private var equal: UInt64 = 0
  private var lost = 0.0

  init() {
    // calloc: pages that are never touched take no memory.
    counts = calloc(Self.buckets, MemoryLayout<UInt32>.stride)!.bindMemory(to: UInt32.self, capacity: Self.buckets)
  }

  deinit { free(counts) }

  @inline(__always)
  func add(_ logRatio: Double, lostNanoseconds: Double) {
    let bounded = max(-Self.limit, min(Self.limit, logRatio))
    counts[Int(((bounded + Self.limit) * Self.perUnit).rounded())] &+= 1
    count &+= 1
    if logRatio > 0 { slower &+= 1 } else if logRatio == 0 { equal &+= 1 }
    lost += lostNanoseconds
  }

  private func quantile(_ q: Double) -> Double {
    let rank = max(1, UInt64((q * Double(count)).rounded(.up)))
    var seen: UInt64 = 0
    for bucket in 0..<Self.buckets {
      seen &+= UInt64(counts[bucket])
      if seen >= rank { return Double(bucket) / Self.perUnit - Self.limit }
    }
    return Self.limit
  }

  /// - Parameter name: safe to print.
  func group(_ name: String) -> ReportDiff.Group? {
    guard count > 0 else { return nil }
    return ReportDiff.Group(
      name: name, requests: count, medianChange: expm1(quantile(0.5)), shareSlower: (Double(slower) + Double(equal) / 2) / Double(count),
      change10: expm1(quantile(0.1)), change90: expm1(quantile(0.9)), lostNanoseconds: lost)
  }
}
