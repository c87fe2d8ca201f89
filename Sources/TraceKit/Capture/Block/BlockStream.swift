import CTrace
import Glibc

/// Makes requests of the kernel's block events: pairs issue and completion. One thread's.
///
/// Requests are found by disk and first sector, those of one sector first in first out. Flushes name no sector: they are paired
/// in their order.
struct BlockStream: ~Copyable {
  struct Scope: Sendable {
    /// CLOCK_MONOTONIC of the trace's time 0.
    var epochNanoseconds: UInt64
    var startNanoseconds: UInt64
    var devices: [BlockDevice]
  }
  private struct Place: Hashable {
    var device: UInt32
    var sector: UInt64
  }
  private struct Waiting {
    var nanoseconds: UInt64
    var thread: Int32
  }
  private struct Request {
    var issueNanoseconds: UInt64
    var thread: Int32
    var kind: BlockRequestKind
    var firstSector: UInt64
    var bytes: UInt64
    var remainingBytes: UInt64
    var error: Int64 = 0
  }
  private static let noSector = UInt64.max
  private let events: BlockEvents
  private let scope: Scope
  private var starts: [Place: [Waiting]] = [:]
  private var requests: [Place: [Request]] = [:]
  private var processOfThread: [Int32: Int32] = [:]
  private(set) var counters = BlockCounters()

  init(events: BlockEvents, scope: Scope) {
    self.events = events
    self.scope = scope
    counters.devices = scope.devices.map { device in
      BlockCounters.Device(path: device.path, name: String(device.folder[device.folder.index(after: device.folder.lastIndex(of: "/")!)...]))
    }
  }

  /// Says what the devices' numbers in requests stand for: 1 for the first.
  func define(into records: inout RecordBuffer) {
    for (number, device) in scope.devices.enumerated() {
      if let facts = device.facts { records.define(UInt32(number + 1), facts) }
    }
  }

  mutating func accept(_ event: RingPage.Event, into records: inout RecordBuffer) {
    let type = Int(events.typeField.value(event.bytes, event.length))
    guard let entry = events.entries[type] else { return }
    let thread = Int32(truncatingIfNeeded: events.threadField.value(event.bytes, event.length))
    let place = Place(
      device: UInt32(truncatingIfNeeded: entry.device.value(event.bytes, event.length)),
      sector: UInt64(bitPattern: entry.sector.value(event.bytes, event.length)))
    let sectors = UInt64(bitPattern: entry.sectors.value(event.bytes, event.length))
    switch entry.role {
    case .start:
      // An empty write that carries a flush.
      if sectors == 0 {
        countFrame(entry, event, place.device)
      } else {
        starts[place, default: []].append(Waiting(nanoseconds: event.nanoseconds, thread: thread))
      }
    case .frontMerge: moveStart(from: Place(device: place.device, sector: place.sector &+ sectors), to: place)
    case .merge: _ = takeStart(place)
    case .issue, .bioQueue: issue(entry, event, place, sectors, thread)
    case .requeue: requeue(entry, event, place, sectors)
    case .complete, .bioComplete: complete(entry, event, place, sectors, &records)
    }
  }

  // MARK: Waiting

  private mutating func takeStart(_ place: Place) -> Waiting? {
    guard var waiting = starts.removeValue(forKey: place), !waiting.isEmpty else { return nil }
    let first = waiting.removeFirst()
    if !waiting.isEmpty { starts[place] = waiting }
    return first
  }

  private mutating func moveStart(from old: Place, to new: Place) {
    if let waiting = takeStart(old) { starts[new, default: []].append(waiting) }
  }

  // MARK: Requests

  private func kind(_ entry: BlockEvents.Entry, _ event: RingPage.Event, hasData: Bool) -> BlockRequestKind {
    guard entry.letters.offset + entry.letters.size <= event.length else {
      return BlockRequestKind(UnsafeRawBufferPointer(start: nil, count: 0), hasData: false)
    }
    return BlockRequestKind(
      UnsafeRawBufferPointer(start: event.bytes + entry.letters.offset, count: entry.letters.size), hasData: hasData)
  }

  /// Flushes stand at a place of their own.
  private func place(_ place: Place, _ kind: BlockRequestKind) -> Place {
    kind.operation == .flush ? Place(device: place.device, sector: Self.noSector) : place
  }

  private mutating func issue(
    _ entry: BlockEvents.Entry, _ event: RingPage.Event, _ given: Place, _ sectors: UInt64, _ thread: Int32
  ) {
    let kind = kind(entry, event, hasData: sectors > 0)
    guard kind.operation != nil else {
      counters.otherRequests += 1
      return
    }
    let stated = entry.bytes.map { UInt64(bitPattern: $0.value(event.bytes, event.length)) } ?? 0
    let bytes = kind.operation == .flush ? 0 : max(stated, sectors &* 512)
    // Without data and without sector: the frame of a flush, which has a request of its own.
    if bytes == 0, kind.operation != .flush { return }
    let place = place(given, kind)
    var submitter = thread
    if kind.operation != .flush, let waiting = takeStart(given) {
      submitter = waiting.thread
      if waiting.nanoseconds <= event.nanoseconds, waiting.nanoseconds >= scope.startNanoseconds {
        counters.queueTime.record(Int64(event.nanoseconds - waiting.nanoseconds))
      }
    }
    requests[place, default: []].append(
      Request(
        issueNanoseconds: event.nanoseconds, thread: submitter, kind: kind, firstSector: place.sector, bytes: bytes,
        remainingBytes: bytes))
  }

  /// The driver gave the request back: it will be issued again, with its submitter as it was.
  private mutating func requeue(_ entry: BlockEvents.Entry, _ event: RingPage.Event, _ given: Place, _ sectors: UInt64) {
    counters.requeues += 1
    let place = place(given, kind(entry, event, hasData: sectors > 0))
    guard let request = takeRequest(place) else { return }
    if place.sector != Self.noSector {
      starts[place, default: []].append(Waiting(nanoseconds: request.issueNanoseconds, thread: request.thread))
    }
  }

  private mutating func takeRequest(_ place: Place) -> Request? {
    guard var waiting = requests.removeValue(forKey: place), !waiting.isEmpty else { return nil }
    let first = waiting.removeFirst()
    if !waiting.isEmpty { requests[place] = waiting }
    return first
  }

  private mutating func complete(
    _ entry: BlockEvents.Entry, _ event: RingPage.Event, _ given: Place, _ sectors: UInt64, _ records: inout RecordBuffer
  ) {
    let kind = kind(entry, event, hasData: sectors > 0)
    guard let operation = kind.operation else { return }
    let place = place(given, kind)
    let done = sectors &* 512
    let error = entry.error?.value(event.bytes, event.length) ?? 0
    guard var request = takeRequest(place) else {
      // The frame of a flush completes without data, also when it had some; anything else was issued before the recording.
      guard operation == .flush || done > 0 else { return }
      counters.inFlightAtStart += 1
      let before = Request(
        issueNanoseconds: scope.startNanoseconds, thread: TraceEvent.unknownID, kind: kind, firstSector: place.sector, bytes: done,
        remainingBytes: 0, error: error)
      append(before, place.device, event.nanoseconds, flags: TraceEventFlags.inFlightAtAttach.rawValue, &records)
      return
    }
    if error != 0 { request.error = error }
    request.remainingBytes -= min(request.remainingBytes, done)
    if request.remainingBytes > 0, done > 0 {
      counters.partialCompletions += 1
      requests[Place(device: place.device, sector: place.sector &+ sectors), default: []].append(request)
      return
    }
    append(request, place.device, event.nanoseconds, flags: 0, &records)
  }

  private mutating func countFrame(_ entry: BlockEvents.Entry, _ event: RingPage.Event, _ disk: UInt32) {
    guard kind(entry, event, hasData: false).operation == .write else { return }
    if let number = scope.devices.firstIndex(where: { $0.disk == disk }) { counters.devices[number].flushFrames += 1 }
  }

  // MARK: The trace

  private mutating func append(_ request: Request, _ disk: UInt32, _ end: UInt64, flags: UInt32, _ records: inout RecordBuffer) {
    guard let operation = request.kind.operation, let number = device(disk, request) else { return }
    let device = scope.devices[number]
    count(request, operation, number)
    var record = trace_record()
    record.operation = operation.rawValue
    record.flags = flags | Self.flags(request, operation)
    record.description = UInt32(number + 1)
    record.start_ns = max(request.issueNanoseconds, scope.startNanoseconds)
    record.latency_ns = end - min(end, record.start_ns)
    record.offset = operation == .flush ? 0 : request.firstSector &* 512 &- device.startBytes
    record.size = request.bytes
    record.result = request.error != 0 ? request.error : Int64(clamping: request.bytes)
    record.thread_id = request.thread
    records.append(record, process: process(of: request.thread))
  }

  /// What reaches a device has left the page cache: a replay must not go through it again.
  private static func flags(_ request: Request, _ operation: TraceOperation) -> UInt32 {
    var flags: TraceEventFlags = request.kind.isForced ? .requestDataSync : []
    if operation == .read || operation == .write { flags.insert(.direct) }
    return flags.rawValue
  }

  /// The device among those asked for that a request is of: the disk, or the partition that its sectors lie in.
  private func device(_ disk: UInt32, _ request: Request) -> Int? {
    scope.devices.firstIndex { device in
      guard device.disk == disk else { return false }
      if !device.isPartition || request.kind.operation == .flush { return true }
      let offset = request.firstSector &* 512
      return offset >= device.startBytes && offset - device.startBytes < device.sizeBytes
    }
  }

  private mutating func count(_ request: Request, _ operation: TraceOperation, _ number: Int) {
    if request.kind.isForced { counters.devices[number].fua += 1 }
    switch operation {
    case .read:
      counters.devices[number].recorded.reads += 1
      counters.devices[number].recorded.readBytes += request.bytes
    case .write, .writeZeroes:
      counters.devices[number].recorded.writes += 1
      counters.devices[number].recorded.writtenBytes += request.bytes
      if operation == .writeZeroes { counters.devices[number].writeZeroes += 1 }
    case .discard:
      counters.devices[number].recorded.discards += 1
      counters.devices[number].recorded.discardedBytes += request.bytes
    case .flush: counters.devices[number].recorded.flushes += 1
    default: break
    }
  }

  private mutating func process(of thread: Int32) -> Int32 {
    guard thread > 0 else { return TraceEvent.unknownID }
    if let known = processOfThread[thread] { return known }
    // Numbers are used again; the table is asked anew now and then.
    if processOfThread.count > 4096 { processOfThread.removeAll(keepingCapacity: true) }
    let process = ProcessSnapshot.threadGroup(of: thread) ?? TraceEvent.unknownID
    processOfThread[thread] = process
    return process
  }

  // MARK: Rounds

  /// The start (CLOCK_MONOTONIC) before which no further request begins.
  func earliest(before bound: UInt64) -> UInt64 {
    var earliest = bound
    for waiting in requests.values {
      for request in waiting where request.issueNanoseconds &+ 10_000_000_000 > bound { earliest = min(earliest, request.issueNanoseconds) }
    }
    return earliest
  }

  /// What was counted; at the end.
  mutating func finish() -> BlockCounters {
    counters.inFlightAtEnd = UInt64(requests.values.reduce(0) { $0 + $1.count })
    return counters
  }
}
