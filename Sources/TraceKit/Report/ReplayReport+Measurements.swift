/// What a replay measured.
extension ReplayReport {
  /// Counts and latencies of one operation.
  public struct Operation: Codable, Hashable, Sendable {
    /// `read`, `write`, `fsync` …
    public var operation: String
    public var requests: UInt64
    /// Bytes that were moved; 0 for operations that move none.
    public var bytes: UInt64
    /// Requests that failed.
    public var errors: UInt64
    /// Transfers that moved fewer bytes than the recorded ones.
    public var shortTransfers: UInt64
    public var latency: LatencyTriple

    enum CodingKeys: String, CodingKey {
      case operation, requests, bytes, errors
      case shortTransfers = "short_transfers"
      case latency
    }
  }

  /// Requests up to a size; the class of 0 holds requests without bytes.
  public struct SizeClass: Codable, Hashable, Sendable {
    /// Largest size of the class; nil for the last one, which has no limit.
    public var upToBytes: UInt64?
    public var requests: UInt64
    /// Their service latencies.
    public var service: LatencySummary

    enum CodingKeys: String, CodingKey {
      case upToBytes = "up_to_bytes"
      case requests, service
    }
  }

  /// Counts and latencies of one recorded file.
  public struct File: Codable, Hashable, Sendable {
    /// Recorded path, safe to print.
    public var path: String
    public var requests: UInt64
    /// Bytes that were moved.
    public var bytes: UInt64
    /// Requests that failed.
    public var errors: UInt64
    /// Service latencies.
    public var service: LatencySummary
  }

  /// Latencies of consecutive requests.
  public struct Window: Codable, Hashable, Sendable {
    /// Number of its first request among those that were replayed.
    public var firstRequest: UInt64
    /// Requests that completed.
    public var requests: UInt64
    public var latency: LatencyTriple

    enum CodingKeys: String, CodingKey {
      case firstRequest = "first_request"
      case requests, latency
    }
  }

  /// What was completed in one interval of the run.
  public struct Interval: Codable, Hashable, Sendable {
    /// Begin, in nanoseconds after the run's start.
    public var startNanoseconds: Int64
    /// Requests that completed in it.
    public var requests: UInt64
    /// Bytes that they moved, read and written together.
    public var bytes: UInt64
    /// Those that failed.
    public var errors: UInt64
    /// Largest lag among them; 0 at maximum speed.
    public var maximumLagNanoseconds: Int64
    /// Bytes read; nil in reports before schema 1.1.
    public var bytesRead: UInt64?
    /// Bytes written; nil in reports before schema 1.1.
    public var bytesWritten: UInt64?
    /// Sum of the service latencies of the requests that completed in it; divided by the interval's width, the mean number of
    /// requests in flight. Nil in reports before schema 1.1.
    public var serviceNanoseconds: UInt64?

    enum CodingKeys: String, CodingKey {
      case startNanoseconds = "start_ns"
      case requests, bytes, errors
      case maximumLagNanoseconds = "max_lag_ns"
      case bytesRead = "bytes_read"
      case bytesWritten = "bytes_written"
      case serviceNanoseconds = "service_ns"
    }
  }

  /// One of the requests that took longest.
  public struct WorstRequest: Codable, Hashable, Sendable {
    /// Number of the event in the trace.
    public var request: UInt64
    /// `read`, `write`, `fsync` …
    public var operation: String
    /// Recorded path, safe to print.
    public var file: String
    /// Where in the file; null for operations on whole files.
    public var offsetBytes: UInt64?
    public var sizeBytes: UInt64
    /// When it was submitted, in nanoseconds after the run's start.
    public var atNanoseconds: Int64
    /// Submitted minus due; null at maximum speed.
    public var lagNanoseconds: Int64?
    /// Completed minus submitted.
    public var serviceNanoseconds: Int64
    /// What the call returned: bytes or 0, negative error numbers for failures.
    public var result: Int64

    enum CodingKeys: String, CodingKey {
      case request, operation, file
      case offsetBytes = "offset_bytes"
      case sizeBytes = "size_bytes"
      case atNanoseconds = "at_ns"
      case lagNanoseconds = "lag_ns"
      case serviceNanoseconds = "service_ns"
      case result
    }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(request, forKey: .request)
      try container.encode(operation, forKey: .operation)
      try container.encode(file, forKey: .file)
      try container.encode(offsetBytes, forKey: .offsetBytes)
      try container.encode(sizeBytes, forKey: .sizeBytes)
      try container.encode(atNanoseconds, forKey: .atNanoseconds)
      try container.encode(lagNanoseconds, forKey: .lagNanoseconds)
      try container.encode(serviceNanoseconds, forKey: .serviceNanoseconds)
      try container.encode(result, forKey: .result)
    }
  }

  /// What the recording did in one interval of recorded time.
  public struct RecordedInterval: Codable, Hashable, Sendable {
    /// Begin, in nanoseconds after the first recorded request.
    public var startNanoseconds: Int64
    /// Requests that began in it.
    public var requests: UInt64
    /// Bytes that its reads moved.
    public var bytesRead: UInt64
    /// Bytes that its writes moved.
    public var bytesWritten: UInt64
    /// Sum of the recorded latencies; null when none is known.
    public var latencyNanoseconds: UInt64?

    enum CodingKeys: String, CodingKey {
      case startNanoseconds = "start_ns"
      case requests
      case bytesRead = "bytes_read"
      case bytesWritten = "bytes_written"
      case latencyNanoseconds = "latency_ns"
    }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(startNanoseconds, forKey: .startNanoseconds)
      try container.encode(requests, forKey: .requests)
      try container.encode(bytesRead, forKey: .bytesRead)
      try container.encode(bytesWritten, forKey: .bytesWritten)
      try container.encode(latencyNanoseconds, forKey: .latencyNanoseconds)
    }
  }

  /// How many requests touched which part of the files when: a grid of recorded time by offset, the files one after another.
  public struct OffsetGrid: Codable, Hashable, Sendable {
    /// Columns that the grid has, at most 120; the cells' columns are below it.
    public var columns: Int
    /// Rows that the grid has, at most 64; row 0 begins with the first byte of the first file.
    public var rows: Int
    /// Recorded time of a column.
    public var columnNanoseconds: Int64
    /// Bytes of a row.
    public var rowBytes: UInt64
    /// Filled cells of the reads, three numbers each: column, row, requests. Flat, since thousands of small arrays take long to write.
    public var reads: [UInt64]
    /// Filled cells of the writes and other changes: column, row, requests.
    public var writes: [UInt64]

    /// The most that a grid may have.
    public static let maximumColumns = 120
    public static let maximumRows = 64

    enum CodingKeys: String, CodingKey {
      case columns, rows
      case columnNanoseconds = "column_ns"
      case rowBytes = "row_bytes"
      case reads, writes
    }
  }
}

extension ReplayReport.OffsetGrid {
  /// The counts of a map, cut to the columns and rows that are in use; nil without requests.
  init?(_ map: borrowing OffsetMap) {
    guard !map.isEmpty else { return nil }
    let (reads, writes) = (map.cells(writes: false), map.cells(writes: true))
    let all = reads + writes
    func triples(_ cells: [OffsetMap.Cell]) -> [UInt64] { cells.flatMap { [UInt64($0.column), UInt64($0.row), $0.count] } }
    self.init(
      columns: (all.map(\.column).max() ?? 0) + 1, rows: (all.map(\.row).max() ?? 0) + 1,
      columnNanoseconds: Int64(clamping: UInt64(1) << map.columnShift), rowBytes: UInt64(1) << map.rowShift, reads: triples(reads),
      writes: triples(writes))
  }
}

extension ReplayReport.RecordedInterval {
  /// The intervals of a series, to its last request.
  static func rows(_ series: borrowing RecordedSeries) -> [ReplayReport.RecordedInterval] {
    let width = series.intervalNanoseconds
    return series.intervals.enumerated().map { i, sums in
      ReplayReport.RecordedInterval(
        startNanoseconds: Int64(i) * width, requests: sums.requests, bytesRead: sums.bytesRead, bytesWritten: sums.bytesWritten,
        latencyNanoseconds: sums.latencies > 0 ? sums.latencyNanoseconds : nil)
    }
  }
}
