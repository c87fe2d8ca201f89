/// A report's latencies as an HdrHistogram log, the format that the HdrHistogram libraries and their plotters read: version 1.3 of the
/// log, histograms in the compressed V2 encoding, three significant digits, values in nanoseconds.
///
/// Each line is a histogram of the whole run: the three latencies, then the service latency of each operation. Our buckets are
/// finer than 1 % but not as fine as HdrHistogram's at three digits: a bucket's values count at its middle.
enum HdrLog {
  static func text(_ report: ReplayReport) -> String {
    let seconds = Double(max(0, report.run.elapsedNanoseconds)) / 1e9
    let start = Double(report.createdUnixNanoseconds) / 1e9 - seconds
    var text = "#[trace-replay \(ToolVersion.current): latencies in nanoseconds]\n#[Histogram log format version 1.3]\n"
    text += "#[StartTime: \(Decimal.text(max(0, start), digits: 3)) (seconds since epoch)]\n"
    text += "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
    for (tag, summary) in histograms(report) where summary.histogram.count > 0 {
      // By convention the maximum is in milliseconds where values are nanoseconds.
      let maximum = Decimal.text(Double(summary.histogram.maximum ?? 0) / 1e6, digits: 3)
      text += "Tag=\(tag),0.000,\(Decimal.text(seconds, digits: 3)),\(maximum),\(Base64.text(compressed(summary.histogram)))\n"
    }
    return text
  }

  private static func histograms(_ report: ReplayReport) -> [(String, LatencySummary)] {
    var all: [(String, LatencySummary)] = [("service", report.latency.service)]
    if report.fidelity.verdict != .notApplicable {
      all += [("response", report.latency.response), ("lag", report.latency.lag)]
    }
    if let recorded = report.recordedLatency { all.append(("recorded", recorded)) }
    // A tag ends at a comma or a blank, and a report may come from anywhere.
    return all
      + report.operations.prefix(100).map { operation in
        (
          "service-" + String(operation.operation.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" }.prefix(64)),
          operation.latency.service
        )
      }
  }

  // MARK: Encoding

  // 3 significant digits: buckets of 2 × 10³, rounded up to a power of two, of which each further one adds the upper half.
  private static let significantDigits = 3
  private static let subBucketBits = 11
  private static let cookie = 0x1C84_9303 | 0x10
  private static let compressedCookie = 0x1C84_9304 | 0x10

  /// Place of a value in HdrHistogram's array of counts, for a lowest discernible value of 1.
  static func index(_ value: UInt64) -> Int {
    let mask = UInt64(1) << UInt64(subBucketBits) - 1
    let bucket = 64 - (value | mask).leadingZeroBitCount - subBucketBits
    return (bucket + 1) << (subBucketBits - 1) + Int(value >> UInt64(bucket)) - 1 << (subBucketBits - 1)
  }

  /// A histogram in the compressed V2 encoding.
  static func compressed(_ histogram: LatencyHistogram) -> [UInt8] {
    let data = ZlibStream.compressed(encoded(histogram))
    return bytes(UInt64(compressedCookie), 4) + bytes(UInt64(data.count), 4) + data
  }

  /// A histogram in the V2 encoding.
  static func encoded(_ histogram: LatencyHistogram) -> [UInt8] {
    let highest = UInt64(max(1 << 44, histogram.maximum ?? 0)) &+ 1
    var payload: [UInt8] = []
    var next = 0
    for (index, count) in counts(histogram) {
      // A run of empty places is one negative number.
      if index > next { append(-Int64(index - next), to: &payload) }
      append(Int64(clamping: count), to: &payload)
      next = index + 1
    }
    return bytes(UInt64(cookie), 4) + bytes(UInt64(payload.count), 4) + bytes(0, 4) + bytes(UInt64(significantDigits), 4) + bytes(1, 8)
      + bytes(highest, 8) + bytes((1.0).bitPattern, 8) + payload
  }

  /// Filled places in order. The ends of the histogram are known exactly, so one value stands at each.
  private static func counts(_ histogram: LatencyHistogram) -> [(Int, UInt64)] {
    var places: [Int: UInt64] = [:]
    func add(_ value: Int64, _ count: UInt64) { places[index(UInt64(max(0, value))), default: 0] &+= count }
    let (low, high) = (histogram.minimum ?? 0, histogram.maximum ?? 0)
    var buckets = histogram.filledBuckets
    if histogram.count > 1, let first = buckets.indices.first {
      add(low, 1)
      buckets[first].count -= 1
    }
    if let last = buckets.indices.last {
      add(high, 1)
      buckets[last].count -= 1
    }
    for (bucket, count) in buckets where count > 0 { add(min(high, max(low, LatencyHistogram.middle(bucket))), count) }
    return places.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  private static func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - $0))) }
  }

  /// ZigZag, then LEB128 of at most nine bytes, of which the ninth holds eight bits.
  private static func append(_ value: Int64, to payload: inout [UInt8]) {
    var rest = UInt64(bitPattern: (value << 1) ^ (value >> 63))
    for _ in 0..<8 {
      if rest < 0x80 { return payload.append(UInt8(rest)) }
      payload.append(UInt8(rest & 0x7F) | 0x80)
      rest >>= 7
    }
    payload.append(UInt8(rest))
  }
}
