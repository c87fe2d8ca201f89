import Glibc

/// The latencies of one side by request: sums of their logarithms and how many there were, so that several logs of a side give
/// the geometric mean. Flat memory of 9 bytes per place. One thread at a time.
final class RequestLatencies: @unchecked Sendable {
  private let index: RequestIndex
  /// Requests with smaller numbers are left out.
  private let first: UInt64
  let sums: UnsafeMutablePointer<Double>
  let counts: UnsafeMutablePointer<UInt8>
  /// Latencies of requests that have no place.
  private(set) var unplaced: UInt64 = 0

  init(_ index: RequestIndex, first: UInt64) {
    self.index = index
    self.first = first
    sums = .allocate(capacity: index.count)
    sums.initialize(repeating: 0, count: index.count)
    counts = .allocate(capacity: index.count)
    counts.initialize(repeating: 0, count: index.count)
  }

  deinit {
    sums.deallocate()
    counts.deallocate()
  }

  /// More than 255 latencies of one request don't count.
  @inline(__always)
  func add(_ request: MeasuredTrace.Request) {
    guard request.number >= first else { return }
    guard let place = index.place(request.number) else {
      unplaced &+= 1
      return
    }
    guard counts[place] < UInt8.max else { return }
    sums[place] += log(Double(request.latencyNanoseconds))
    counts[place] &+= 1
  }

  func add(_ traces: [MeasuredTrace]) throws(TraceError) {
    for trace in traces { try trace.forEach { request, _ in add(request) } }
  }

  /// Mean logarithm of a place that has one.
  @inline(__always)
  func mean(_ place: Int) -> Double { sums[place] / Double(counts[place]) }

  /// Latencies that `other` has no partner for.
  func alone(without other: RequestLatencies) -> UInt64 {
    (0..<index.count).reduce(unplaced) { other.counts[$1] == 0 ? $0 &+ UInt64(counts[$1]) : $0 }
  }
}
