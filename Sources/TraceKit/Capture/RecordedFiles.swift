import CTrace

/// From the numbers that traced processes give their open files to the rows of the trace's file table: one row per file and
/// name, however often it is opened, and none for files that no kept event names.
struct RecordedFiles {
  /// What a number stands for.
  enum Reference: Equatable {
    case row(UInt32)
    /// The filters leave the file out.
    case excluded
    /// The sample has it not.
    case unsampled
    /// No definition was published (no room), or the call named no open file.
    case unknown
  }
  private struct Identity: Hashable {
    var device: UInt64
    var inode: UInt64
    var birthNanoseconds: Int64
    var path: [UInt8]
  }
  private struct Entry {
    var file: TraceFile
    var row: UInt32?
    var isKept: Bool
    var isSampled = true
    var wasNamed = false
    /// When an event named it last.
    var generation: UInt32
  }
  private let filter: PathFilter
  private let anonymizer: PathAnonymizer?
  /// A rule for files; nil keeps all.
  let sample: SampleRule?
  /// Files that the sample was asked about, and those that it has.
  private(set) var sampled: (recorded: UInt64, met: UInt64) = (0, 0)
  private var numbers = FileNumbers()
  private var entries: [Entry] = []
  /// Raised when rows are forgotten.
  private var generation: UInt32 = 0
  /// Entries beyond which closed and unused ones are given up.
  private var sweepLimit = RecordedFiles.smallestSweep
  static let smallestSweep = 1 << 16
  private var entryOfIdentity: [Identity: UInt32] = [:]
  /// Files that were given a row at some time.
  private(set) var named = 0

  init(filter: PathFilter, anonymizer: PathAnonymizer?, sample: SampleRule? = nil) {
    self.sample = sample?.unit == .files ? sample : nil
    self.filter = filter
    self.anonymizer = anonymizer
  }

  /// Takes a definition from `bytes`: the fixed part, then the path.
  mutating func define(_ bytes: UnsafeRawBufferPointer) {
    let fixedBytes = MemoryLayout<trace_definition>.size
    guard bytes.count >= fixedBytes else { return }
    let fixed = bytes.loadUnaligned(as: trace_definition.self)
    let number = Int(fixed.description)
    // Numbers come nearly in order; a leap is a program that wrote over its ring.
    guard number > 0, number < numbers.end + (1 << 20) else { return }
    let path = Array(bytes[fixedBytes..<min(bytes.count, fixedBytes + Int(fixed.path_bytes))])
    // What is named and not open can't be closed either.
    let isOpen = fixed.open_flags != UInt32.max
    let identity = Identity(
      device: fixed.device, inode: fixed.inode, birthNanoseconds: fixed.birth_ns, path: path)
    if let known = entryOfIdentity[identity] {
      numbers.set(number, entry: known, isOpen: isOpen)
      entries[Int(known) - 1].generation = generation
      return
    }
    var entry = Entry(file: file(fixed, path), row: nil, isKept: filter.keeps(path), generation: generation)
    if let sample, entry.isKept {
      entry.isSampled = sample.keeps(path: path)
      sampled.met += 1
      if entry.isSampled { sampled.recorded += 1 }
    }
    entries.append(entry)
    numbers.set(number, entry: UInt32(entries.count), isOpen: isOpen)
    entryOfIdentity[identity] = UInt32(entries.count)
  }

  private func file(_ fixed: trace_definition, _ path: [UInt8]) -> TraceFile {
    let identified = fixed.inode != 0
    return TraceFile(
      path: path, kind: kind(fixed, path), device: identified ? fixed.device : nil, inode: identified ? fixed.inode : nil,
      birthTimeNanoseconds: fixed.birth_ns == Int64.min ? nil : fixed.birth_ns,
      sizeBytes: fixed.size == UInt64.max ? nil : fixed.size,
      openFlags: fixed.open_flags == UInt32.max ? nil : fixed.open_flags,
      filesystemType: fixed.filesystem_type == 0 ? nil : fixed.filesystem_type,
      representedDevice: fixed.represented_device == 0 ? nil : fixed.represented_device)
  }

  private func kind(_ fixed: trace_definition, _ path: [UInt8]) -> TraceFile.Kind {
    if path.starts(with: "anon_inode:".utf8) { return .anonymous }
    return TraceFile.Kind(rawValue: UInt8(truncatingIfNeeded: fixed.kind)) ?? .unknown
  }

  /// What `number` stands for; a kept file that is named for the first time is added by `addRow`.
  mutating func resolve(_ number: UInt32, addRow: (TraceFile) -> UInt32) -> Reference {
    let index = Int(numbers.entry(of: Int(number))) - 1
    guard index >= 0 else { return .unknown }
    if let row = entries[index].row { return .row(row) }
    if entries[index].generation != generation { entries[index].generation = generation }
    guard entries[index].isKept else { return .excluded }
    guard entries[index].isSampled else { return .unsampled }
    if !entries[index].wasNamed { named += 1 }
    entries[index].wasNamed = true
    var file = entries[index].file
    if let anonymizer { file.path = anonymizer.anonymized(file.path) }
    let row = addRow(file)
    entries[index].row = row
    return .row(row)
  }

  /// One of the descriptors that `number` stands for was closed: it may be given up when nothing names it any more.
  mutating func close(_ number: UInt32) { numbers.close(Int(number)) }

  /// Gives no file a row any more: what follows goes into another trace.
  mutating func forgetRows() {
    for index in entries.indices { entries[index].row = nil }
    generation += 1
    if entries.count > sweepLimit || numbers.count > 1 << 20 { sweep() }
  }

  /// Files that are known now.
  var count: Int { entries.count }

  /// Gives up files that are closed and that nothing has named for two traces, so that a recording of days does not grow.
  private mutating func sweep() {
    var isOpen = [Bool](repeating: false, count: entries.count)
    numbers.forEachOpen { isOpen[Int($0) - 1] = true }
    var newIndex = [UInt32](repeating: 0, count: entries.count)
    var kept: [Entry] = []
    for (index, entry) in entries.enumerated() where isOpen[index] || entry.generation + 2 >= generation {
      kept.append(entry)
      newIndex[index] = UInt32(kept.count)
    }
    entries = kept
    numbers.renumber { newIndex[Int($0) - 1] }
    entryOfIdentity = entryOfIdentity.compactMapValues { old in
      let new = newIndex[Int(old) - 1]
      return new == 0 ? nil : new
    }
    sweepLimit = max(Self.smallestSweep, 2 * entries.count)
  }

  /// Whether events that name no file are kept: a list of wanted files does not name them, nor has a sample of files them.
  var keepsUnnamed: Bool { filter.include.isEmpty && sample == nil }
}
