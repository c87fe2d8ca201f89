/// The three latencies of replayed requests.
public struct LatencySet: Hashable, Sendable {
  /// Submitted minus due: the replayer's own lateness.
  public var lag = LatencyHistogram()
  /// Completed minus submitted: what the device did.
  public var service = LatencyHistogram()
  /// Completed minus due: what a client on the schedule would have seen.
  public var response = LatencyHistogram()
  public init() {}

  public mutating func merge(_ other: LatencySet) {
    lag.merge(other.lag)
    service.merge(other.service)
    response.merge(other.response)
  }
}

/// The same on plain memory. At maximum speed there is no schedule: lag is 0 and response is service.
struct RawLatencySet {
  private var lag: RawHistogram
  private var service = RawHistogram()
  private var response: RawHistogram
  private let isTimed: Bool

  init(isTimed: Bool) {
    self.isTimed = isTimed
    lag = RawHistogram(isUsed: isTimed)
    response = RawHistogram(isUsed: isTimed)
  }

  func deallocate() {
    lag.deallocate()
    service.deallocate()
    response.deallocate()
  }

  @inline(__always)
  mutating func record(lag lagNanoseconds: Int64, service serviceNanoseconds: Int64) {
    service.record(serviceNanoseconds)
    if isTimed {
      lag.record(lagNanoseconds)
      response.record(lagNanoseconds &+ serviceNanoseconds)
    }
  }

  mutating func reset() {
    lag.reset()
    service.reset()
    response.reset()
  }

  var latencies: LatencySet {
    var set = LatencySet()
    set.service = service.histogram
    if isTimed {
      set.lag = lag.histogram
      set.response = response.histogram
    } else if set.service.count > 0 {
      set.lag = LatencyHistogram(buckets: [(0, set.service.count)], sumNanoseconds: 0, minimum: 0, maximum: 0) ?? LatencyHistogram()
      set.response = set.service
    }
    return set
  }
}

extension LatencySet {
  /// A latency set in as much memory as its values need.
  struct Sparse {
    private let lag: SparseHistogram
    private let service: SparseHistogram
    private let response: SparseHistogram

    init(_ set: LatencySet) {
      lag = SparseHistogram(set.lag)
      service = SparseHistogram(set.service)
      response = SparseHistogram(set.response)
    }

    var latencies: LatencySet {
      var set = LatencySet()
      set.lag = lag.histogram
      set.service = service.histogram
      set.response = response.histogram
      return set
    }
  }
}
