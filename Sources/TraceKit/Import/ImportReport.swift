/// What an import did, and what it had to leave out.
public struct ImportReport: Hashable, Sendable {
  /// A line or record that was not understood.
  public struct Rejection: Hashable, Sendable {
    /// Name of the input.
    public var input: String
    /// Line (counted from 1) or record (counted from 0) in the input.
    public var number: UInt64
    /// Why, in words that are safe on a terminal.
    public var reason: String

    var json: JSONNode {
      .object([("input", .text(PrintableText.escaped(input))), ("number", .unsigned(number)), ("reason", .text(reason))])
    }
  }

  /// Most rejections that are kept word by word; all are counted.
  public static let keptRejections = 10

  public var format = ""
  /// Units and other decisions about what the input does not say itself, a sentence each.
  public var assumptions: [String] = []
  public var inputs: [String] = []
  /// Events of the trace: reads, writes and everything else.
  public var requests: UInt64 = 0
  public var reads: UInt64 = 0
  public var writes: UInt64 = 0
  public var bytesRead: UInt64 = 0
  public var bytesWritten: UInt64 = 0
  public var files: UInt64 = 0
  /// First start to last start, in nanoseconds.
  public var spanNanoseconds: Int64 = 0
  /// Requests that start before the one in front of them, in the inputs.
  public var outOfOrder: UInt64 = 0
  /// Requests so far out of order that the trace is not sorted.
  public var unsorted: UInt64 = 0
  /// Lines or records that were not understood.
  public var rejected: UInt64 = 0
  public var rejections: [Rejection] = []
  /// What was understood and has no place in the trace, by kind.
  public var dropped: [String: UInt64] = [:]
  public var traceBytes: UInt64 = 0
  public var digest = ""

  public init() {}
}

extension ImportReport {
  /// The report with stable keys; all times in nanoseconds.
  public var json: JSONNode {
    let source: [(String, JSONNode)] = [
      ("format", .text(format)), ("assumptions", .array(assumptions.map { .text($0) })),
      ("inputs", .array(inputs.map { .text(PrintableText.escaped($0)) })),
    ]
    let counts: [(String, JSONNode)] = [
      ("requests", .unsigned(requests)), ("reads", .unsigned(reads)), ("writes", .unsigned(writes)),
      ("bytes_read", .unsigned(bytesRead)), ("bytes_written", .unsigned(bytesWritten)), ("files", .unsigned(files)),
      ("span_ns", .integer(spanNanoseconds)), ("out_of_order", .unsigned(outOfOrder)), ("unsorted", .unsigned(unsorted)),
    ]
    var kinds: [(String, JSONNode)] = []
    for (kind, count) in dropped.sorted(by: { $0.key < $1.key }) { kinds.append((kind, .unsigned(count))) }
    let losses: [(String, JSONNode)] = [
      ("rejected", .unsigned(rejected)), ("rejections", .array(rejections.map(\.json))),
      ("dropped", .object(kinds)),
    ]
    return .object(source + counts + losses + [("trace_bytes", .unsigned(traceBytes)), ("digest", .text(digest))])
  }

  /// The report for people, lines ended by `\n`.
  public var text: String {
    var lines = ["format      \(format)"]
    for assumption in assumptions { lines.append("assumed     \(assumption)") }
    lines.append("requests    \(requests) (\(reads) reads, \(writes) writes, \(requests - reads - writes) others), files \(files)")
    lines.append("bytes       \(bytesRead) read, \(bytesWritten) written")
    lines.append("span        \(TimeText.seconds(spanNanoseconds)) s")
    lines.append("order       " + (outOfOrder == 0 ? "as it was, sorted" : "\(outOfOrder) requests out of order" + sortedNote))
    lines.append("rejected    \(rejected)" + (rejected > UInt64(rejections.count) ? ", the first \(rejections.count):" : ""))
    for rejection in rejections {
      lines.append("            \(PrintableText.escaped(rejection.input)):\(rejection.number): \(rejection.reason)")
    }
    let kinds = dropped.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
    lines.append("dropped     " + (kinds.isEmpty ? "nothing" : kinds.joined(separator: ", ")))
    let perRequest = requests == 0 ? "" : ", \(Decimal.text(Double(traceBytes) / Double(requests), digits: 2)) a request"
    lines.append("trace       \(traceBytes) bytes\(perRequest), digest \(digest)")
    return lines.map { $0 + "\n" }.joined()
  }

  private var sortedNote: String {
    unsorted == 0 ? ", now sorted" : ", \(unsorted) of them too far to sort: the trace says that it is not sorted"
  }
}
