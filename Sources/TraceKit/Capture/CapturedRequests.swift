import CTrace

/// Requests that completed later than they were submitted (io_uring, libaio, POSIX AIO): two records of the traced process,
/// joined here to one event.
///
/// A completion is matched with the earliest request of its process, context and key. It may come first, when another thread
/// saw it; then it waits for the request.
struct CapturedRequests {
  private struct Key: Hashable {
    var processID: Int32
    var context: UInt64
    var key: UInt64
  }
  /// A request on its way, or a completion that came before its request; linked to the next of the same key.
  private struct Node {
    var event: TraceEvent
    var next: Int32
  }
  private struct Chain {
    var first: Int32
    var last: Int32
  }
  private struct Early {
    var seenNanoseconds: Int64
    var result: Int64
    var flags: UInt32
  }
  private var nodes: [Node] = []
  private var free: [Int32] = []
  private var waiting: [Key: Chain] = [:]
  private var early: [Key: [Early]] = [:]
  /// Completions that no submission was recorded of. Those of POSIX AIO may be told twice and are not counted.
  private(set) var unmatchedCompletions: UInt64 = 0
  private(set) var count = 0

  /// A completion may be drained this much before its submission.
  private static let patience: Int64 = 2_000_000_000
  /// Requests that are on their way hold back the events that started after them for this long at most.
  static let longestHold: Int64 = 10_000_000_000

  /// Takes a record that is no finished call; an event that it completes goes to `body`.
  mutating func take(_ record: trace_record, processID: Int32, epochNanoseconds: UInt64, _ body: (TraceEvent) -> Void) {
    let start = Int64(bitPattern: record.start_ns &- epochNanoseconds)
    switch UInt32(record.phase) {
    case TRACE_PHASE_SUBMISSION.rawValue:
      let key = Key(processID: processID, context: UInt64(bitPattern: record.result), key: record.latency_ns)
      let event = TraceEvent(
        startNanoseconds: start, operation: TraceOperation(rawValue: record.operation) ?? .other, file: record.description,
        offsetBytes: record.offset, sizeBytes: record.size, processID: processID, threadID: record.thread_id,
        flags: TraceEventFlags(rawValue: record.flags).union(.asynchronous), otherFile: record.other_description)
      submit(event, key, body)
    case TRACE_PHASE_COMPLETION.rawValue:
      let key = Key(processID: processID, context: record.offset, key: record.latency_ns)
      complete(key, Early(seenNanoseconds: start, result: record.result, flags: record.flags), body)
    case TRACE_PHASE_WITHDRAWAL.rawValue:
      withdraw(Key(processID: processID, context: record.offset, key: record.latency_ns))
    default: break
    }
  }

  /// Earliest start of a request that is on its way, of those that are not older than the longest hold before `now`.
  func earliestStart(now: Int64) -> Int64 {
    guard count > 0 else { return Int64.max }
    var earliest = Int64.max
    for chain in waiting.values {
      let start = nodes[Int(chain.first)].event.startNanoseconds
      if start < earliest, start > now - Self.longestHold { earliest = start }
    }
    return earliest
  }

  /// Forgets completions whose submission does not come any more.
  mutating func expire(now: Int64) {
    guard !early.isEmpty else { return }
    for (key, list) in early {
      let kept = list.filter { $0.seenNanoseconds > now - Self.patience }
      guard kept.count < list.count else { continue }
      if key.context != TRACE_CONTEXT_POSIX { unmatchedCompletions += UInt64(list.count - kept.count) }
      early[key] = kept.isEmpty ? nil : kept
    }
  }

  /// Gives `body` the requests whose completion was never seen, without latency and result.
  mutating func giveUnfinished(_ body: (TraceEvent) -> Void) {
    for chain in waiting.values {
      var index = chain.first
      while index >= 0 {
        body(nodes[Int(index)].event)
        index = nodes[Int(index)].next
      }
    }
    waiting.removeAll()
    expire(now: Int64.max)
  }

  // MARK: Chains

  private mutating func submit(_ event: TraceEvent, _ key: Key, _ body: (TraceEvent) -> Void) {
    append(event, key)
    guard !early.isEmpty, var list = early[key] else { return }
    // A completion from before this submission is another request's, or was told before.
    let stale = list.prefix { $0.seenNanoseconds < event.startNanoseconds }.count
    if key.context != TRACE_CONTEXT_POSIX { unmatchedCompletions += UInt64(stale) }
    list.removeFirst(stale)
    let completion = list.first
    if completion != nil { list.removeFirst() }
    early[key] = list.isEmpty ? nil : list
    if let completion { complete(key, completion, body) }
  }

  private mutating func complete(_ key: Key, _ completion: Early, _ body: (TraceEvent) -> Void) {
    guard let chain = waiting[key], nodes[Int(chain.first)].event.startNanoseconds <= completion.seenNanoseconds else {
      early[key, default: []].append(completion)
      return
    }
    if completion.flags & TRACE_COMPLETION_NOTICE.rawValue != 0 {
      removeFirst(key, chain)
      return
    }
    var event = nodes[Int(chain.first)].event
    event.latencyNanoseconds = max(0, completion.seenNanoseconds - event.startNanoseconds)
    event.result = completion.result
    body(event)
    if completion.flags & TRACE_COMPLETION_MORE.rawValue != 0 {
      // What follows began when this was seen.
      nodes[Int(chain.first)].event.startNanoseconds = completion.seenNanoseconds
    } else {
      removeFirst(key, chain)
    }
  }

  private mutating func append(_ event: TraceEvent, _ key: Key) {
    let index: Int32
    if let reused = free.popLast() {
      index = reused
      nodes[Int(index)] = Node(event: event, next: -1)
    } else {
      index = Int32(nodes.count)
      nodes.append(Node(event: event, next: -1))
    }
    count += 1
    if let chain = waiting[key] {
      nodes[Int(chain.last)].next = index
      waiting[key] = Chain(first: chain.first, last: index)
    } else {
      waiting[key] = Chain(first: index, last: index)
    }
  }

  private mutating func removeFirst(_ key: Key, _ chain: Chain) {
    let next = nodes[Int(chain.first)].next
    waiting[key] = next < 0 ? nil : Chain(first: next, last: chain.last)
    release(chain.first)
  }

  /// Takes back the latest request with the key: the kernel refused it.
  private mutating func withdraw(_ key: Key) {
    guard let chain = waiting[key] else { return }
    if chain.first == chain.last { return removeFirst(key, chain) }
    var before = chain.first
    while nodes[Int(before)].next != chain.last { before = nodes[Int(before)].next }
    nodes[Int(before)].next = -1
    waiting[key] = Chain(first: chain.first, last: before)
    release(chain.last)
  }

  private mutating func release(_ index: Int32) {
    free.append(index)
    count -= 1
  }
}
