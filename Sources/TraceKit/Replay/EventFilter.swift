import CTrace

/// Chooses the events of a trace that are replayed.
struct EventFilter {
  private let from: Int64
  private let to: Int64
  private let only: IOOperation.Kind?
  /// Per file id; nil when every file is wanted.
  private let wantedFiles: [Bool]?
  private let unknownFileWanted: Bool

  /// - Parameter epoch: start of the trace's first event, from which the window counts.
  init(_ options: ReplayOptions, files: [TraceFile], epoch: Int64) {
    from = options.fromNanoseconds.map { epoch &+ $0 } ?? Int64.min
    to = options.toNanoseconds.map { epoch &+ $0 } ?? Int64.max
    only = options.only
    unknownFileWanted = options.fileGlobs.isEmpty
    wantedFiles =
      options.fileGlobs.isEmpty
      ? nil
      : files.map { file in
        let path = file.path.map { CChar(bitPattern: $0) } + [0]
        return options.fileGlobs.contains { fnmatch($0, path, 0) == 0 }
      }
  }

  /// Moves a reader to where wanted events begin.
  func begin(_ reader: TraceReader) throws(TraceError) {
    if from != Int64.min { try reader.seek(toTime: from) } else { try reader.rewind() }
  }

  /// No wanted event can follow: the batch begins at or after the window's end, and so does everything behind it.
  func isPast(_ batch: EventBatch, of reader: TraceReader) -> Bool {
    to != Int64.max && batch.count > 0 && batch.events[0].startNanoseconds >= to && reader.isSorted
  }

  var isEmpty: Bool { from == Int64.min && to == Int64.max && only == nil && wantedFiles == nil }

  @inline(__always)
  func wants(_ event: TraceEvent) -> Bool {
    if event.startNanoseconds < from || event.startNanoseconds >= to { return false }
    if let only, IOOperation.Kind(event.operation) != only { return false }
    guard let wantedFiles else { return true }
    let file = Int(event.file)
    return file < wantedFiles.count ? wantedFiles[file] : unknownFileWanted
  }
}
