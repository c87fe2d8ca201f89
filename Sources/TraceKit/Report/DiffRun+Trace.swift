extension DiffRun {
  /// How the requests of a trace are divided into windows, so that they are those of the other side.
  enum Windows: Sendable {
    /// In 30 equal parts of the numbers of A's requests.
    case byNumber(RequestIndex)
    /// As a report divides them: so many requests each, in the order of the recording. Only recordings know that order.
    case byOrdinal(UInt64)
    case none
  }

  /// The service latencies of a log or of a recording. Reads it once.
  /// - Parameter requests: gets them too, request by request.
  init(_ trace: MeasuredTrace, windows division: Windows, requests side: RequestLatencies?) throws(TraceError) {
    let count = WindowSeries.maximumWindows
    let kinds = IOOperation.Kind.allCases.count
    // One more for requests of no window.
    var windowSets = (0...count).map { _ in RawHistogram() }
    var operationSets = (0..<kinds).map { _ in RawHistogram() }
    defer {
      for set in windowSets + operationSets { set.deallocate() }
    }
    var bytes = Array(repeating: UInt64(0), count: kinds)
    try Self.collect(trace, division, side, &windowSets, &operationSets, &bytes)
    let operations = IOOperation.Kind.allCases.filter { operationSets[Int($0.rawValue)].count > 0 }.map { kind in
      let set = operationSets[Int(kind.rawValue)]
      return Operation(operation: kind.name, requests: set.count, errors: 0, service: set.histogram)
    }
    var latencies = LatencySet()
    for operation in operations { latencies.service.merge(operation.service) }
    let totals = trace.reader.totals
    let requests = Double(latencies.service.count)
    let seconds = Double(totals?.durationNanoseconds ?? 0) / 1e9
    let (read, written) = (Double(bytes[Int(IOOperation.Kind.read.rawValue)]), Double(bytes[Int(IOOperation.Kind.write.rawValue)]))
    var figures = ["requests": requests, "bytes_read": read, "bytes_written": written]
    if seconds > 0 {
      figures.merge(["elapsed_ns": seconds * 1e9, "iops": requests / seconds, "bytes_per_second": (read + written) / seconds]) { $1 }
    }
    self.init(
      name: PrintableText.escaped(trace.path), source: trace.isLog ? .log : .recording, engine: nil,
      createdUnixNanoseconds: trace.reader.preamble?.createdUnixNanoseconds, digest: trace.digest, isTimed: false,
      conditions: Self.conditions(trace), conditionsAreComplete: false, latencies: latencies,
      windows: Self.windows(division, windowSets.prefix(count).map(\.histogram)), operations: operations, totals: figures,
      vetoes: requests == 0 ? ["has no requests with latencies"] : [], notes: trace.notes)
    if trace.isLog {
      notes.append("conditions of a run are in its report; a log knows only its trace, and service latencies")
    }
  }

  private static func collect(
    _ trace: MeasuredTrace, _ division: Windows, _ side: RequestLatencies?, _ windowSets: inout [RawHistogram],
    _ operationSets: inout [RawHistogram], _ bytes: inout [UInt64]
  ) throws(TraceError) {
    let count = WindowSeries.maximumWindows
    // Pointers, because a closure that captures inout arrays checks each access.
    let windows = UnsafeMutablePointer<RawHistogram>.allocate(capacity: windowSets.count)
    windows.initialize(from: windowSets, count: windowSets.count)
    let operations = UnsafeMutablePointer<RawHistogram>.allocate(capacity: operationSets.count)
    operations.initialize(from: operationSets, count: operationSets.count)
    let moved = UnsafeMutablePointer<UInt64>.allocate(capacity: bytes.count)
    moved.initialize(from: bytes, count: bytes.count)
    defer {
      windowSets = Array(UnsafeBufferPointer(start: windows, count: windowSets.count))
      operationSets = Array(UnsafeBufferPointer(start: operations, count: operationSets.count))
      bytes = Array(UnsafeBufferPointer(start: moved, count: bytes.count))
      windows.deallocate()
      operations.deallocate()
      moved.deallocate()
    }
    try trace.forEach { request, event in
      let kind = Int(request.kind.rawValue)
      operations[kind].record(request.latencyNanoseconds)
      moved[kind] &+= event.pointee.transferredBytes
      switch division {
      case .byNumber(let index): windows[index.part(request.number, of: count) ?? count].record(request.latencyNanoseconds)
      case .byOrdinal(let size): windows[Int(min(UInt64(count), request.ordinal / size))].record(request.latencyNanoseconds)
      case .none: break
      }
      side?.add(request)
    }
  }

  private static func windows(_ division: Windows, _ histograms: [LatencyHistogram]) -> [Window] {
    func window(_ first: UInt64, _ histogram: LatencyHistogram) -> Window {
      var set = LatencySet()
      set.service = histogram
      return Window(firstRequest: first, latencies: set)
    }
    switch division {
    case .none: return []
    case .byOrdinal(let size):
      let used = (histograms.lastIndex { $0.count > 0 } ?? -1) + 1
      return histograms.prefix(used).enumerated().map { window(UInt64($0) * size, $1) }
    case .byNumber(let index):
      return histograms.enumerated().map { window(index.firstNumber(ofPart: $0, of: histograms.count), $1) }
    }
  }

  private static func conditions(_ trace: MeasuredTrace) -> [(name: String, value: String)] {
    var rows: [(name: String, value: String)] = [("trace", trace.digest ?? "no digest")]
    if !trace.isLog { rows += [("filter", "none"), ("speed", "original"), ("loops", "1")] }
    if let host = trace.reader.metadata.host { rows += [("host", host.hostName), ("kernel", host.kernel)] }
    return rows.map { ($0.name, PrintableText.escaped($0.value)) }
  }
}
