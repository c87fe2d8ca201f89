/// Takes operations and gives completions. A non-copyable value that one worker thread owns; the replay's loop is generic over it,
/// in the same module, so that it specialises. Nothing in `queue`, `commit` and `reap` allocates or throws: a failed operation is
/// a counted result.
public protocol IOEngine: ~Copyable, SendableMetatype {
  /// Name on the command line and in reports.
  static var name: String { get }
  /// One sentence for `trace-replay engines` and the manual.
  static var summary: String { get }
  /// It moves data from or to targets; false for one that only pretends.
  static var needsTargets: Bool { get }
  /// What its targets are.
  static var targetKind: EngineTargetKind { get }
  /// It wants `IOOperation.isFollowed` to be right.
  static var looksAhead: Bool { get }
  /// It keeps several operations in flight; otherwise each is complete when `queue` returns.
  static var isAsynchronous: Bool { get }
  /// What it can be asked to do.
  static var capabilities: EngineCapabilities { get }
  /// Why this machine cannot run it; nil when it can.
  static func unavailability() -> String?
  /// What the running kernel has of what the engine can use, for `trace-replay engines`.
  static func features() -> [String]
  /// What an errno of an operation means with this engine, where the system's text for it would mislead; nil elsewhere.
  static func meaning(of code: Int32, _ kind: IOOperation.Kind) -> String?
  /// The settings that it has a use for; others are refused.
  static var settings: Set<EngineSetting> { get }
  /// Why it cannot run with these settings of its own, naming the option; nil when it can. Asked before anything is opened.
  static func refusal(of options: EngineOptions) -> String?

  /// Made on the thread that will use it.
  init(_ configuration: EngineConfiguration) throws(TraceError)
  /// Hands over one operation.
  /// - Parameter slot: comes back with its completion; below `EngineConfiguration.slots`, and not in flight.
  mutating func queue(_ operation: IOOperation, slot: Int32) -> QueueStatus
  /// Starts what was queued, at the latest; an engine may start it earlier, or in the `reap` that follows.
  mutating func commit()
  /// Completions that are there. Waits for the first one until `deadline`, unless operations complete at once.
  /// - Parameters:
  ///   - deadline: CLOCK_MONOTONIC in nanoseconds; 0 not to wait at all. It may return early with nothing.
  ///   - completions: room for `iodepth` of them.
  /// - Returns: how many were written.
  mutating func reap(until deadline: Int64, into completions: UnsafeMutablePointer<IOCompletion>) -> Int
  /// Called now and then while no request is in flight and none is due: an engine may release what it holds for requests.
  /// - Parameter now: CLOCK_MONOTONIC in nanoseconds.
  mutating func idle(now: Int64)
  /// The worker has no more requests: ends what the engine began (streams that its peer must see end). Takes bounded time.
  mutating func finish()
  /// What the report should say about this run: pipe size, ring features. Asked when the engine is made, and after `finish`.
  var conditions: [String: String] { get }
  /// Why no further request can succeed (the peer is gone), or, after `finish`, why the run can't be trusted; nil while all is
  /// well. Asked only after a failed operation, and at the end.
  var failure: String? { get }
}

/// What an engine's targets are.
public enum EngineTargetKind: String, Sendable {
  /// Files and block devices.
  case files
  /// One-directional streams to a peer: `tcp://`, `udp://`, `unix:`.
  case streams
  /// Exports of storage servers: `nbd://`, `nbd+unix:`.
  case exports
}

extension IOEngine where Self: ~Copyable {
  public static var needsTargets: Bool { true }
  public static var targetKind: EngineTargetKind { .files }
  public static var looksAhead: Bool { false }
  public static var isAsynchronous: Bool { false }
  public static var capabilities: EngineCapabilities { EngineCapabilities() }
  public static func unavailability() -> String? { nil }
  public static func features() -> [String] { [] }
  public static func meaning(of code: Int32, _ kind: IOOperation.Kind) -> String? { nil }
  public static var settings: Set<EngineSetting> { [] }
  public static func refusal(of options: EngineOptions) -> String? { nil }
  public mutating func commit() {}
  public mutating func reap(until deadline: Int64, into completions: UnsafeMutablePointer<IOCompletion>) -> Int { 0 }
  public mutating func idle(now: Int64) {}
  public mutating func finish() {}
  public var conditions: [String: String] { [:] }
  public var failure: String? { nil }
}

/// What became of an operation that was given to an engine.
public struct QueueStatus: BitwiseCopyable, Equatable, Sendable {
  /// At least −4095 when completed; below that one of the states.
  public let rawValue: Int64
  @inline(__always)
  public init(rawValue: Int64) { self.rawValue = rawValue }
  /// Accepted; its completion comes from `reap`.
  public static let queued = QueueStatus(rawValue: Int64.min)
  /// Not accepted now: reap, and offer it again.
  public static let busy = QueueStatus(rawValue: Int64.min + 1)
  /// Done, with the bytes moved (0 for operations that move none) or −errno.
  @inline(__always)
  public static func completed(_ result: Int64) -> QueueStatus { QueueStatus(rawValue: result) }
}

/// The end of an operation.
public struct IOCompletion: BitwiseCopyable, Sendable {
  public var slot: Int32
  /// The errno in `result` came from submission, not from the operation's completion.
  public var failedAtSubmission: Bool
  /// Bytes moved, 0 for operations that move none, or −errno.
  public var result: Int64

  public init(slot: Int32, result: Int64, failedAtSubmission: Bool = false) {
    self.slot = slot
    self.failedAtSubmission = failedAtSubmission
    self.result = result
  }
}

/// What an engine declares to support; the rest is counted as unsupported, never replaced.
public struct EngineCapabilities: Sendable {
  /// Operations that it performs on files.
  public var operations: Set<IOOperation.Kind>
  /// It can discard ranges of block devices.
  public var discardsBlockDevices = true
  /// Offsets are honoured; false for streams.
  public var randomOffsets = true
  /// What was written can be read back.
  public var lastingTarget = true

  public init(operations: Set<IOOperation.Kind> = Set(IOOperation.Kind.allCases)) { self.operations = operations }
}
