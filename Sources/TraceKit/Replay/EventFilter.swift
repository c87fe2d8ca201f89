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

  /// Events at or after this time come too late to be wanted.
  var end: Int64 { to }
  var start: Int64 { from }
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
