import Glibc

/// Compares request with request: the latencies of two sides, that were read before.
struct PairedComparison {
  static let maximumFiles = 50
  static let worstRequests = 20
  static let phases = 10

  private let index: RequestIndex
  private let a: RequestLatencies
  private let b: RequestLatencies
  /// Gives files, offsets and times.
  private let trace: MeasuredTrace

  /// - Parameter trace: the first of side A, which `index` is of.
  init(_ a: RequestLatencies, _ b: RequestLatencies, index: RequestIndex, trace: MeasuredTrace) {
    self.index = index
    self.a = a
    self.b = b
    self.trace = trace
  }

  /// The logs of two sides; nil when A's first has no requests with latencies.
  static func compare(_ logsA: [String], _ logsB: [String]) throws(TraceError) -> ReportDiff.Paired? {
    let (a, b) = (try MeasuredTrace.open(logsA), try MeasuredTrace.open(logsB))
    guard let index = try RequestIndex(a[0]) else { return nil }
    let (sideA, sideB) = (RequestLatencies(index, first: 0), RequestLatencies(index, first: 0))
    _ = try WorkerThread.both({ () throws(TraceError) in try sideA.add(a) }, { () throws(TraceError) in try sideB.add(b) })
    return try PairedComparison(sideA, sideB, index: index, trace: a[0]).result()
  }

  // MARK: Groups

  private final class Groups {
    let all = ChangeHistogram()
    let operations = IOOperation.Kind.allCases.map { _ in ChangeHistogram() }
    let sizes = (0..<WorkerTally.sizeClasses).map { _ in ChangeHistogram() }
    let phases = (0..<PairedComparison.phases).map { _ in ChangeHistogram() }
    let files: [ChangeHistogram]
    var worst: [(lost: Double, event: TraceEvent, request: MeasuredTrace.Request, a: Double, b: Double)] = []
    var onlyA: UInt64 = 0
    var start = Int64.max

    init(files: Int) { self.files = (0..<files + 1).map { _ in ChangeHistogram() } }
  }

  /// The paths with most requests, the most used first, and the row of each file; files that were replaced share their path's row.
  private func chosenPaths() -> (paths: [[UInt8]], rowOfFile: [Int]) {
    let files = trace.reader.files
    var requests: [[UInt8]: UInt64] = [:]
    for (file, count) in zip(files, index.requestsOfFile) where count > 0 { requests[file.path, default: 0] += UInt64(count) }
    let order = requests.sorted { $0.value != $1.value ? $0.value > $1.value : $0.key.lexicographicallyPrecedes($1.key) }
    let paths = order.prefix(Self.maximumFiles).map(\.key)
    let rows = Dictionary(uniqueKeysWithValues: paths.enumerated().map { ($1, $0) })
    return (paths, files.map { rows[$0.path] ?? paths.count })
  }

  /// Reads A's first trace again, for what its requests are.
  func result() throws(TraceError) -> ReportDiff.Paired {
    let (files, rowOfFile) = chosenPaths()
    let groups = Groups(files: files.count)
    // Before `a` is used up below.
    let onlyB = b.alone(without: a)
    let (index, a, b) = (index, a, b)
    var threshold = 0.0
    try trace.forEach(.all) { request, event in
      groups.start = min(groups.start, event.pointee.startNanoseconds)
      guard let place = index.place(request.number), a.counts[place] > 0 else { return }
      // A request counts once, however often it was replayed.
      guard b.counts[place] > 0 else {
        groups.onlyA &+= 1
        return
      }
      let (logA, logB) = (a.mean(place), b.mean(place))
      a.counts[place] = 0
      let (latencyA, latencyB) = (exp(logA), exp(logB))
      let (change, lost) = (logB - logA, latencyB - latencyA)
      groups.all.add(change, lostNanoseconds: lost)
      groups.operations[Int(request.kind.rawValue)].add(change, lostNanoseconds: lost)
      let size = event.pointee.sizeBytes == TraceEvent.unknownSize ? 0 : Int(clamping: event.pointee.sizeBytes)
      groups.sizes[WorkerTally.sizeClass(size)].add(change, lostNanoseconds: lost)
      groups.phases[index.part(request.number, of: Self.phases) ?? 0].add(change, lostNanoseconds: lost)
      let file = Int(event.pointee.file)
      groups.files[file < rowOfFile.count ? rowOfFile[file] : files.count].add(change, lostNanoseconds: lost)
      if lost > threshold {
        let place = groups.worst.firstIndex { $0.lost < lost } ?? groups.worst.count
        groups.worst.insert((lost, event.pointee, request, latencyA, latencyB), at: place)
        if groups.worst.count > Self.worstRequests { groups.worst.removeLast() }
        if groups.worst.count == Self.worstRequests { threshold = groups.worst.last!.lost }
      }
    }
    return summary(groups, files, onlyB)
  }

  private func summary(_ groups: Groups, _ paths: [[UInt8]], _ onlyB: UInt64) -> ReportDiff.Paired {
    let table = trace.reader.files
    let empty = ReportDiff.Group(
      name: "all", requests: 0, medianChange: 0, shareSlower: 0, change10: 0, change90: 0, lostNanoseconds: 0)
    return ReportDiff.Paired(
      all: groups.all.group("all") ?? empty,
      byOperation: IOOperation.Kind.allCases.compactMap { groups.operations[Int($0.rawValue)].group($0.name) },
      byFile: paths.enumerated().compactMap { row, path in groups.files[row].group(PrintableText.escaped(path)) }
        + [groups.files[paths.count].group("(all other files)")].compactMap { $0 },
      bySize: groups.sizes.enumerated().compactMap { $1.group(Self.sizeName($0)) },
      byPhase: groups.phases.enumerated().compactMap { $1.group("\($0 * 10)–\(($0 + 1) * 10) %") },
      worst: groups.worst.map { row in
        let file = Int(row.event.file)
        return ReportDiff.Request(
          request: row.request.number, operation: row.request.kind.name,
          file: file < table.count ? table[file].displayPath : "(unknown file)", offsetBytes: row.event.offsetIfKnown,
          sizeBytes: row.event.sizeIfKnown, atNanoseconds: row.event.startNanoseconds &- groups.start,
          aNanoseconds: Int64(bounded: row.a), bNanoseconds: Int64(bounded: row.b))
      }, onlyA: groups.onlyA, onlyB: onlyB)
  }

  /// The sizes of a class, as reports divide them.
  static func sizeName(_ sizeClass: Int) -> String {
    if sizeClass == 0 { return "no data" }
    if sizeClass == WorkerTally.sizeClasses - 1 { return "larger" }
    return "up to \(ByteCount.text(256 << UInt64(sizeClass)))"
  }
}
