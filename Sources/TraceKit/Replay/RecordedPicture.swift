/// What the recording looked like over time, counted by the decoding thread as it hands requests out.
struct RecordedPicture: ~Copyable {
  private(set) var offsets: OffsetMap
  private(set) var series = RecordedSeries()

  /// - Parameter survey: what the trace touches, where it was surveyed: the map's scale fits from the start then.
  init(survey: TraceSurvey?, files: [TraceFile]) {
    if let survey {
      offsets = OffsetMap(
        fileSizesBytes: survey.files.map { max($0.readEnd, $0.writeEnd) }, durationNanoseconds: survey.recordedNanoseconds)
    } else {
      offsets = OffsetMap(fileSizesBytes: files.map { $0.sizeBytes ?? 0 })
    }
  }

  /// Counts the first `count` requests of a batch.
  @inline(__always)
  mutating func add(_ requests: UnsafePointer<ReplayRequest>, count: Int) {
    for i in 0..<count {
      let request = requests + i
      let kind = request.pointee.kind
      let start = request.pointee.startNanoseconds
      let (isRead, isWrite) = (kind == .read, kind == .write)
      series.add(
        startNanoseconds: start, isRead: isRead, isWrite: isWrite, bytes: UInt64(max(0, request.pointee.expectedBytes)),
        latencyNanoseconds: request.pointee.recordedLatencyNanoseconds ?? -1)
      guard isRead || isWrite else { continue }
      offsets.add(
        file: request.pointee.file, offsetBytes: UInt64(request.pointee.offsetBytes), lengthBytes: UInt64(request.pointee.lengthBytes),
        isWrite: isWrite, startNanoseconds: start)
    }
  }
}
