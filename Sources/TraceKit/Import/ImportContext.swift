/// What the readers of one import share: the table of files, the time base and the report.
final class ImportContext {
  let options: TraceImport.Options
  private(set) var report = ImportReport()
  /// Wall-clock time of the trace's time 0 in nanoseconds since 1970, where the inputs tell it.
  var epochUnixNanoseconds: Int64?
  /// The inputs' time stamp, in their own unit, that became the trace's time 0.
  var base: UInt64?
  private var ids: [[UInt8]: UInt32] = [:]
  private var newFiles: [TraceFile] = []
  private var fileCount: UInt32 = 0

  init(options: TraceImport.Options) { self.options = options }

  /// The id of the file called `path`, which gets a row at its first mention.
  func file(_ path: [UInt8], kind: TraceFile.Kind = .unknown) -> UInt32 {
    if let known = ids[path] { return known }
    let id = fileCount
    fileCount += 1
    ids[path] = id
    newFiles.append(TraceFile(id: id, path: path, kind: kind))
    return id
  }

  func takeNewFiles() -> [TraceFile] {
    defer { newFiles.removeAll() }
    return newFiles
  }

  func assume(_ sentence: String) {
    if !report.assumptions.contains(sentence) { report.assumptions.append(sentence) }
  }

  func drop(_ kind: String, count: UInt64 = 1) { report.dropped[kind, default: 0] += count }

  func reject(_ input: String, _ number: UInt64, _ reason: String) {
    report.rejected += 1
    guard report.rejections.count < ImportReport.keptRejections else { return }
    report.rejections.append(.init(input: input, number: number, reason: reason))
  }

  /// Figures for the metadata.
  var summary: [String: String] {
    var summary = ["import_rejected": String(report.rejected)]
    for (kind, count) in report.dropped { summary["import_dropped_\(kind)"] = String(count) }
    return summary
  }
}
