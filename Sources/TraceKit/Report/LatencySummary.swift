/// A latency histogram as reports show it: key figures for readers, buckets for tools. Encodes integers in nanoseconds, null where
/// there is no value.
public struct LatencySummary: Codable, Hashable, Sendable {
  public var histogram: LatencyHistogram

  public init(_ histogram: LatencyHistogram) { self.histogram = histogram }

  /// The quantiles of reports, by key.
  public static let quantiles: [(key: String, q: Double)] = [
    ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999),
  ]

  private enum CodingKeys: String, CodingKey {
    case count
    case minimum = "min_ns"
    case mean = "mean_ns"
    case p50 = "p50_ns"
    case p90 = "p90_ns"
    case p99 = "p99_ns"
    case p999 = "p99_9_ns"
    case p9999 = "p99_99_ns"
    case maximum = "max_ns"
    case histogram
  }

  /// `buckets` alternates bucket number and count; LatencyHistogram documents the layout.
  private struct Buckets: Codable {
    var buckets: [UInt64]
    var sum: UInt64
    enum CodingKeys: String, CodingKey {
      case buckets
      case sum = "sum_ns"
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(histogram.count, forKey: .count)
    try container.encode(histogram.minimum, forKey: .minimum)
    try container.encode(histogram.mean.map { Int64($0.rounded()) }, forKey: .mean)
    for (key, q) in [(CodingKeys.p50, 0.5), (.p90, 0.9), (.p99, 0.99), (.p999, 0.999), (.p9999, 0.9999)] {
      try container.encode(histogram.quantile(q), forKey: key)
    }
    try container.encode(histogram.maximum, forKey: .maximum)
    let flat = histogram.filledBuckets.flatMap { [UInt64($0.bucket), $0.count] }
    try container.encode(Buckets(buckets: flat, sum: histogram.sumNanoseconds), forKey: .histogram)
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    var stored = try container.decode(Buckets.self, forKey: .histogram)
    if let arrays = decoder.userInfo[BucketArrays.key] as? [[UInt64]], let place = stored.buckets.first, place < arrays.count {
      stored.buckets = arrays[Int(place)]
    }
    func broken(_ reason: String) -> DecodingError { .dataCorruptedError(forKey: .histogram, in: container, debugDescription: reason) }
    guard stored.buckets.count % 2 == 0 else { throw broken("buckets and counts don't pair up") }
    let pairs = stride(from: 0, to: stored.buckets.count, by: 2).map {
      (bucket: Int(clamping: stored.buckets[$0]), count: stored.buckets[$0 + 1])
    }
    guard
      let histogram = LatencyHistogram(
        buckets: pairs, sumNanoseconds: stored.sum, minimum: try container.decodeIfPresent(Int64.self, forKey: .minimum),
        maximum: try container.decodeIfPresent(Int64.self, forKey: .maximum)),
      histogram.count == (try container.decode(UInt64.self, forKey: .count))
    else { throw broken("the histogram contradicts itself") }
    self.histogram = histogram
  }
}

/// Lag, service and response of a set of requests.
public struct LatencyTriple: Codable, Hashable, Sendable {
  public var lag: LatencySummary
  public var service: LatencySummary
  public var response: LatencySummary

  public init(_ set: LatencySet) {
    lag = LatencySummary(set.lag)
    service = LatencySummary(set.service)
    response = LatencySummary(set.response)
  }
}
