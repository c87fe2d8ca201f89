import CTrace
import Glibc

/// The open file descriptions of the traced processes, and which descriptors stand for them. One thread's.
///
/// Descriptions are counted by reference: descriptors, calls under way and the list of those without a name hold them.
struct OpenFiles: ~Copyable {
  /// How far the name of a description is known.
  enum Naming: UInt8 {
    /// The trace has its definition.
    case defined
    /// /proc was not asked yet.
    case unresolved
    /// /proc was asked; a close that happened before that would prove the answer wrong.
    case unverified
    /// Nobody knows.
    case nameless
  }
  struct Description: BitwiseCopyable {
    /// The number in the trace's definitions.
    var number: UInt32
    var references: Int32
    /// Bits of TraceEventFlags that every request on it carries.
    var flags: UInt32
    /// The file among `sizes`; −1 when it has no size or is not known.
    var file: Int32 = -1
    /// Bytes; −1 when not known.
    var position: Int64
    /// Only what ends later moves the position (CLOCK_MONOTONIC).
    var positionNanoseconds: UInt64 = 0
    /// When /proc was asked.
    var namedNanoseconds: UInt64 = 0
    /// Only what ends later makes the file longer than `sizes` says.
    var sizeNanoseconds: UInt64 = 0
    var openedNanoseconds: UInt64 = 0
    /// Calls under way that use the position, and whether there were several at once.
    var positionUsers: Int32 = 0
    var isOverlapped = false
    private var rawKind: UInt8
    var naming: Naming
    /// Where /proc finds it.
    var process: Int32
    var descriptor: Int32
    /// Bytes of a file that was opened with O_TRUNC, as long as /proc has not told which it is; −1 when not known.
    var ownSize: Int64 = -1
    /// Another descriptor of the process that stands for it; −1 when there is none.
    var duplicate: Int32 = -1

    init(
      number: UInt32, references: Int32, flags: UInt32, position: Int64, positionNanoseconds: UInt64, openedNanoseconds: UInt64,
      kind: TraceFile.Kind, naming: Naming, process: Int32, descriptor: Int32
    ) {
      self.number = number
      self.references = references
      self.flags = flags
      self.position = position
      self.positionNanoseconds = positionNanoseconds
      self.openedNanoseconds = openedNanoseconds
      rawKind = kind.rawValue
      self.naming = naming
      self.process = process
      self.descriptor = descriptor
    }

    var kind: TraceFile.Kind {
      get { TraceFile.Kind(rawValue: rawKind) ?? .unknown }
      set { rawKind = newValue.rawValue }
    }
  }
  struct Table: BitwiseCopyable {
    var entries: UnsafeMutablePointer<Int32>
    var capacity: Int32
    var references: Int32
  }
  private struct FileKey: Hashable {
    var device: UInt64
    var inode: UInt64
    var birth: Int64
  }
  private(set) var descriptions = Slab<Description>(capacity: 1024)
  private var tables = Slab<Table>()
  private var sizes = Slab<Int64>(capacity: 1024)
  private var files: [FileKey: Int32] = [:]
  private var nextNumber: UInt32 = 1
  /// Held until they have a name or are given up.
  private var unresolved: [Int32] = []
  private var unverified: [(description: Int32, facts: DescriptorFacts)] = []
  /// Paths by which descriptions were opened, until they have a name; what programs in the kernel read.
  private var givenNames: [Int32: GivenName] = [:]
  /// Paths of open folders, that names may be relative to.
  private var folders: [Int32: [UInt8]] = [:]
  /// Descriptions whose file could not be found out.
  private(set) var namelessCount: UInt64 = 0

  /// A descriptor beyond this is not followed; fs.nr_open is 2^20 unless somebody raised it.
  static let descriptorLimit: Int32 = 1 << 20
  private static let closeOnExec: Int32 = 1

  // MARK: Tables

  mutating func makeTable() -> Int32 {
    let entries = UnsafeMutablePointer<Int32>.allocate(capacity: 64)
    entries.initialize(repeating: -1, count: 64)
    return tables.add(Table(entries: entries, capacity: 64, references: 1))
  }

  mutating func shareTable(_ table: Int32) { tables[table].pointee.references += 1 }

  /// A copy for a child that does not share its parent's.
  mutating func copyTable(_ table: Int32) -> Int32 {
    let source = tables[table].pointee
    let entries = UnsafeMutablePointer<Int32>.allocate(capacity: Int(source.capacity))
    entries.update(from: source.entries, count: Int(source.capacity))
    for i in 0..<Int(source.capacity) where entries[i] >= 0 { retain(entries[i] >> 1) }
    return tables.add(Table(entries: entries, capacity: source.capacity, references: 1))
  }

  mutating func releaseTable(_ table: Int32) {
    tables[table].pointee.references -= 1
    guard tables[table].pointee.references == 0 else { return }
    let old = tables[table].pointee
    for i in 0..<Int(old.capacity) where old.entries[i] >= 0 { release(old.entries[i] >> 1) }
    old.entries.deallocate()
    tables.remove(table)
  }

  /// The table of a process that executes another program: its own, without what closes then.
  mutating func execute(_ table: Int32) -> Int32 {
    var own = table
    if tables[table].pointee.references > 1 {
      own = copyTable(table)
      releaseTable(table)
    }
    let state = tables[own].pointee
    for i in 0..<Int(state.capacity) where state.entries[i] >= 0 && state.entries[i] & Self.closeOnExec != 0 {
      release(state.entries[i] >> 1)
      state.entries[i] = -1
    }
    return own
  }

  // MARK: Descriptors

  /// The description that `descriptor` stands for; −1 when that is not known.
  @inline(__always)
  mutating func find(_ table: Int32, _ descriptor: Int32) -> Int32 {
    let state = tables[table]
    guard descriptor >= 0, descriptor < state.pointee.capacity else { return -1 }
    let entry = state.pointee.entries[Int(descriptor)]
    return entry < 0 ? -1 : entry >> 1
  }

  /// Lets `descriptor` stand for a description, or for none (−1).
  mutating func set(_ table: Int32, _ descriptor: Int32, _ description: Int32, closeOnExec: Bool, at time: UInt64) {
    guard descriptor >= 0, descriptor < Self.descriptorLimit else { return }
    if descriptor >= tables[table].pointee.capacity {
      if description < 0 { return }
      grow(table, descriptor)
    }
    let place = tables[table].pointee.entries + Int(descriptor)
    let old = place.pointee
    if description >= 0 { retain(description) }
    place.pointee = description < 0 ? -1 : description << 1 | (closeOnExec ? Self.closeOnExec : 0)
    if old >= 0 { drop(old >> 1, descriptor, at: time) }
  }

  mutating func setCloseOnExec(_ table: Int32, _ descriptor: Int32, _ closes: Bool) {
    guard find(table, descriptor) >= 0 else { return }
    let place = tables[table].pointee.entries + Int(descriptor)
    place.pointee = place.pointee & ~Self.closeOnExec | (closes ? Self.closeOnExec : 0)
  }

  /// One past the highest descriptor that the table has room for.
  mutating func capacity(_ table: Int32) -> Int32 { tables[table].pointee.capacity }

  private mutating func grow(_ table: Int32, _ descriptor: Int32) {
    let old = tables[table].pointee
    var capacity = old.capacity
    while capacity <= descriptor { capacity *= 2 }
    let entries = UnsafeMutablePointer<Int32>.allocate(capacity: Int(capacity))
    entries.initialize(repeating: -1, count: Int(capacity))
    entries.update(from: old.entries, count: Int(old.capacity))
    old.entries.deallocate()
    tables[table].pointee.entries = entries
    tables[table].pointee.capacity = capacity
  }

  /// A descriptor no longer stands for `description`: an answer that /proc gave afterwards was about something else.
  private mutating func drop(_ description: Int32, _ descriptor: Int32, at time: UInt64) {
    let state = descriptions[description]
    if state.pointee.naming == .unverified, state.pointee.descriptor == descriptor, time <= state.pointee.namedNanoseconds {
      state.pointee.naming = .nameless
    }
    if state.pointee.naming == .unresolved, state.pointee.descriptor == descriptor {
      // As in a shell's redirection: open, dup2, close.
      state.pointee.descriptor = state.pointee.duplicate
      state.pointee.duplicate = -1
      if state.pointee.descriptor < 0 { state.pointee.naming = .nameless }
    }
    release(description)
  }

  // MARK: Descriptions

  @inline(__always)
  mutating func retain(_ description: Int32) { descriptions[description].pointee.references += 1 }

  @inline(__always)
  mutating func release(_ description: Int32) {
    let state = descriptions[description]
    state.pointee.references -= 1
    if state.pointee.references == 0 { remove(description) }
  }

  private mutating func remove(_ description: Int32) {
    if !folders.isEmpty { folders[description] = nil }
    descriptions.remove(description)
  }

  /// The path of an open folder; nil when it is not known.
  func folder(_ description: Int32) -> [UInt8]? { folders[description] }

  /// A description that was just opened, at position 0, to be looked up later.
  mutating func opened(_ process: Int32, _ descriptor: Int32, flags: UInt32, at time: UInt64, began: UInt64) -> Int32 {
    let number = descriptions.add(
      Description(
        number: takeNumber(), references: 1, flags: flags, position: 0, positionNanoseconds: time, openedNanoseconds: began,
        kind: .unknown, naming: .unresolved, process: process, descriptor: descriptor))
    unresolved.append(number)
    return number
  }

  /// A description that /proc told of.
  mutating func found(_ facts: DescriptorFacts, process: Int32, descriptor: Int32, isVerified: Bool) -> Int32 {
    let number = descriptions.add(
      Description(
        number: takeNumber(), references: isVerified ? 0 : 1, flags: Self.requestFlags(facts.openFlags ?? 0),
        position: facts.position ?? -1, positionNanoseconds: facts.nanoseconds,
        openedNanoseconds: facts.nanoseconds, kind: facts.kind, naming: isVerified ? .defined : .unverified, process: process,
        descriptor: descriptor))
    descriptions[number].pointee.namedNanoseconds = facts.nanoseconds
    descriptions[number].pointee.sizeNanoseconds = facts.nanoseconds
    let file = file(of: facts)
    descriptions[number].pointee.file = file
    if facts.kind == .directory { folders[number] = facts.path }
    if !isVerified { unverified.append((number, facts)) }
    return number
  }

  private mutating func takeNumber() -> UInt32 {
    defer { nextNumber += 1 }
    return nextNumber
  }

  private mutating func file(of facts: DescriptorFacts) -> Int32 {
    guard facts.kind == .regular || facts.kind == .blockDevice else { return -1 }
    let key = FileKey(device: facts.device, inode: facts.inode, birth: facts.birthNanoseconds)
    if let known = files[key] { return known }
    let number = sizes.add(facts.sizeBytes.map { Int64(clamping: $0) } ?? -1)
    files[key] = number
    return number
  }

  // MARK: Sizes, for appended writes

  mutating func size(of description: Int32) -> Int64 {
    let file = descriptions[description].pointee.file
    return file < 0 ? descriptions[description].pointee.ownSize : sizes[file].pointee
  }

  mutating func setSize(of description: Int32, _ size: Int64) {
    let file = descriptions[description].pointee.file
    if file >= 0 { sizes[file].pointee = size } else { descriptions[description].pointee.ownSize = size }
  }

  mutating func extend(_ description: Int32, to end: Int64) {
    let file = descriptions[description].pointee.file
    if file < 0 {
      let own = descriptions[description].pointee.ownSize
      if own >= 0, own < end { descriptions[description].pointee.ownSize = end }
    } else if sizes[file].pointee >= 0, sizes[file].pointee < end {
      sizes[file].pointee = end
    }
  }

  // MARK: Names

  /// Starts before this are of files whose definition is out.
  var earliestOpen: UInt64 {
    mutating get {
      var earliest = UInt64.max
      for number in unresolved { earliest = min(earliest, descriptions[number].pointee.openedNanoseconds) }
      for (number, _) in unverified { earliest = min(earliest, descriptions[number].pointee.openedNanoseconds) }
      return earliest
    }
  }

  /// Asks /proc for the names of what was opened, and publishes those that no close before `bound` proves wrong.
  /// - Parameter root: opens the root folder that a process sees, for names that /proc no longer tells; −1 when it can't.
  mutating func resolve(before bound: UInt64, into records: inout RecordBuffer, root: (_ process: Int32) -> Int32) {
    publish(before: bound, into: &records, root)
    guard !unresolved.isEmpty else { return }
    askNames(&records, root)
    if bound == UInt64.max { publish(before: bound, into: &records, root) }
  }

  /// A description that was just opened, by this name: the name it gets when /proc can't tell a better one.
  mutating func name(_ description: Int32, _ given: GivenName) {
    if descriptions[description].pointee.naming != .defined { givenNames[description] = given }
    if given.mayBeFolder, let path = given.absolute { folders[description] = path }
  }

  private mutating func askNames(_ records: inout RecordBuffer, _ root: (Int32) -> Int32) {
    let waiting = unresolved
    unresolved.removeAll(keepingCapacity: true)
    for number in waiting {
      let state = descriptions[number]
      guard state.pointee.naming == .unresolved,
        let facts = DescriptorFacts(
          process: state.pointee.process, descriptor: state.pointee.descriptor, withPosition: state.pointee.flags == UInt32.max)
      else {
        giveUp(number, &records, root)
        continue
      }
      if state.pointee.flags == UInt32.max { state.pointee.flags = Self.requestFlags(facts.openFlags ?? 0) }
      state.pointee.naming = .unverified
      state.pointee.namedNanoseconds = facts.nanoseconds
      state.pointee.sizeNanoseconds = facts.nanoseconds
      state.pointee.kind = facts.kind
      if facts.kind == .directory { folders[number] = facts.path } else if !folders.isEmpty { folders[number] = nil }
      let file = file(of: facts)
      let own = descriptions[number].pointee.ownSize
      if file >= 0, own >= 0 {
        // What was followed from the beginning is of the calls so far, what /proc says may be of later ones.
        sizes[file].pointee = own
        descriptions[number].pointee.sizeNanoseconds = 0
      }
      descriptions[number].pointee.file = file
      unverified.append((number, facts))
    }
  }

  private mutating func publish(before bound: UInt64, into records: inout RecordBuffer, _ root: (Int32) -> Int32) {
    guard !unverified.isEmpty else { return }
    let waiting = unverified
    unverified.removeAll(keepingCapacity: true)
    for (number, facts) in waiting {
      if descriptions[number].pointee.naming == .nameless {
        giveUp(number, &records, root)
      } else if facts.nanoseconds < bound {
        records.define(descriptions[number].pointee.number, facts)
        descriptions[number].pointee.naming = .defined
        if !givenNames.isEmpty { givenNames[number] = nil }
        release(number)
      } else {
        unverified.append((number, facts))
      }
    }
  }

  private mutating func giveUp(_ number: Int32, _ records: inout RecordBuffer, _ root: (Int32) -> Int32) {
    let state = descriptions[number]
    state.pointee.naming = .nameless
    state.pointee.file = -1
    if let given = givenNames.removeValue(forKey: number) {
      let folder = root(given.process)
      let facts = DescriptorFacts(given: given, root: folder)
      if folder >= 0 { close(folder) }
      records.define(state.pointee.number, facts)
      state.pointee.kind = facts.kind
      state.pointee.naming = .defined
    } else {
      namelessCount += 1
    }
    release(number)
  }

  // MARK: Flags

  /// The bits that every request on a description opened with `flags` carries.
  static func requestFlags(_ flags: UInt32) -> UInt32 {
    var bits: UInt32 = 0
    let value = Int32(bitPattern: flags)
    if value & CTRACE_O_DIRECT != 0 { bits |= UInt32(TRACE_FLAG_DIRECT.rawValue) }
    if value & CTRACE_O_SYNC == CTRACE_O_SYNC {
      bits |= UInt32(TRACE_FLAG_SYNC.rawValue)
    } else if value & CTRACE_O_DSYNC != 0 {
      bits |= UInt32(TRACE_FLAG_DATA_SYNC.rawValue)
    }
    if value & O_APPEND != 0 { bits |= UInt32(TRACE_FLAG_APPEND.rawValue) }
    return bits
  }
}
