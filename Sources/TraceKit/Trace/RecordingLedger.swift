/// What a recording saw, what it missed and what it cost. Written into a trace's metadata when the recording ends; a trace that
/// was cut short has none.
///
/// Nothing in it names a file, a host or a command, so that it may stand in an anonymised trace.
public struct RecordingLedger: Codable, Hashable, Sendable {
  /// Events of one kind of operation, gaps excepted.
  public struct OperationCount: Codable, Hashable, Sendable {
    /// `TraceOperation.name`.
    public var operation: String
    /// How many were recorded.
    public var events: UInt64
    /// Calls that failed.
    public var errors: UInt64
    /// Bytes that moved.
    public var bytes: UInt64

    public init(operation: String, events: UInt64, errors: UInt64, bytes: UInt64) {
      self.operation = operation
      self.events = events
      self.errors = errors
      self.bytes = bytes
    }
  }

  /// One way of recording, with what it delivered.
  public struct Route: Codable, Hashable, Sendable {
    /// `preload`, `syscalls` or `block`.
    public var name: String
    /// Its events by operation, gaps excepted.
    public var operations: [OperationCount]
    /// Cost of recording one event as measured on this machine at the start; nil when it was not measured.
    public var costPerEventNanoseconds: Double?

    public init(name: String, operations: [OperationCount] = [], costPerEventNanoseconds: Double? = nil) {
      self.name = name
      self.operations = operations
      self.costPerEventNanoseconds = costPerEventNanoseconds
    }

    /// Events of all operations.
    public var events: UInt64 { operations.reduce(0) { $0 &+ $1.events } }

    enum CodingKeys: String, CodingKey {
      case name, operations
      case costPerEventNanoseconds = "cost_per_event_ns"
    }
  }

  /// All gaps of one cause.
  public struct Loss: Codable, Hashable, Sendable {
    /// `GapCause.name`.
    public var cause: String
    /// How many times events went unrecorded for this cause.
    public var gaps: UInt64
    /// Events that they stand for; nil when one of them doesn't know.
    public var events: UInt64?

    public init(cause: String, gaps: UInt64, events: UInt64?) {
      self.cause = cause
      self.gaps = gaps
      self.events = events
    }
  }

  /// One time when events went unrecorded.
  public struct Gap: Codable, Hashable, Sendable {
    /// On the trace's clock.
    public var startNanoseconds: Int64
    /// How long it lasted; nil when that is not known.
    public var durationNanoseconds: Int64?
    public var events: UInt64?
    /// `GapCause.name`.
    public var cause: String
    /// The stream that lost them: process and thread, where it was one's.
    public var processID: Int32?
    public var threadID: Int32?

    enum CodingKeys: String, CodingKey {
      case startNanoseconds = "start_ns"
      case durationNanoseconds = "duration_ns"
      case events, cause
      case processID = "pid"
      case threadID = "tid"
    }
  }

  /// What was recorded beside one of the kernel's own counters, over the whole recording.
  public struct Coverage: Codable, Hashable, Sendable {
    /// Where the kernel counts: `/proc/PID/io`, `/sys/block/loop0/stat`.
    public var source: String
    /// What it counts: `read`, `written`, `reads`, `sectors read` …
    public var counter: String
    /// `bytes` or `requests`.
    public var unit: String
    /// What the trace has, in `unit`.
    public var recorded: UInt64
    /// Nil when it could not be read.
    public var kernel: UInt64?
    /// Why the two may differ, for people.
    public var explanation: String?

    public init(source: String, counter: String, unit: String, recorded: UInt64, kernel: UInt64?, explanation: String? = nil) {
      self.source = source
      self.counter = counter
      self.unit = unit
      self.recorded = recorded
      self.kernel = kernel
      self.explanation = explanation
    }

    /// Recorded share of what the kernel counted, 0…1; nil when the kernel's number is not known.
    public var share: Double? {
      guard let kernel else { return nil }
      return kernel == 0 ? 1 : min(1, Double(recorded) / Double(kernel))
    }
    /// What the kernel counted and the trace doesn't have.
    public var missing: UInt64 { (kernel ?? 0) > recorded ? (kernel ?? 0) - recorded : 0 }
    /// What the trace has and the kernel didn't count.
    public var surplus: UInt64 { kernel.map { recorded > $0 ? recorded - $0 : 0 } ?? 0 }
  }

  /// A kind of I/O that the route can't see, and that was met.
  public struct BlindSpot: Codable, Hashable, Sendable {
    /// For people, in the plural: `file mappings`, `io_uring rings with SQPOLL`, `static children`.
    public var name: String
    /// How often it was met.
    public var count: UInt64
    /// What would see it, for people; nil when nothing would.
    public var remedy: String?

    public init(name: String, count: UInt64, remedy: String? = nil) {
      self.name = name
      self.count = count
      self.remedy = remedy
    }
  }

  /// A recording of some files or threads only, all of whose requests it has.
  public struct Sampling: Codable, Hashable, Sendable {
    /// `files` or `threads`.
    public var unit: String
    /// One of so many is recorded.
    public var oneIn: UInt64
    /// Files or threads that were recorded, and that were met.
    public var recorded: UInt64
    public var met: UInt64
    /// Events of the others, which the trace doesn't have.
    public var eventsLeftOut: UInt64

    public init(unit: String, oneIn: UInt64, recorded: UInt64 = 0, met: UInt64 = 0, eventsLeftOut: UInt64 = 0) {
      self.unit = unit
      self.oneIn = oneIn
      self.recorded = recorded
      self.met = met
      self.eventsLeftOut = eventsLeftOut
    }

    enum CodingKeys: String, CodingKey {
      case unit
      case oneIn = "one_in"
      case recorded, met
      case eventsLeftOut = "events_left_out"
    }
  }

  /// Most gaps that are listed one by one; `losses` has them all.
  public static let listedGaps = 1000

  /// Ways of recording that were used.
  public var routes: [Route] = []
  /// All gaps, by cause.
  public var losses: [Loss] = []
  /// The first `listedGaps` gaps.
  public var gaps: [Gap] = []
  /// What was recorded, beside the kernel's counters.
  public var coverage: [Coverage] = []
  /// Kinds of I/O that went unseen.
  public var blindSpots: [BlindSpot] = []
  /// Which part was recorded; nil for all of it.
  public var sampling: Sampling?
  /// Events that path filters left out.
  public var excludedEvents: UInt64 = 0
  /// Interval of the recording on the trace's clock; nil when it is not known.
  public var startNanoseconds: Int64?
  public var endNanoseconds: Int64?
  /// CPU time that the recorder itself used in that interval; what recorded calls cost is `costPerEventNanoseconds`.
  public var recorderCPUNanoseconds: UInt64?

  public init() {}

  enum CodingKeys: String, CodingKey {
    case routes, losses, gaps, coverage
    case blindSpots = "blind_spots"
    case sampling
    case excludedEvents = "excluded_events"
    case startNanoseconds = "start_ns"
    case endNanoseconds = "end_ns"
    case recorderCPUNanoseconds = "recorder_cpu_ns"
  }

  /// Keys may be missing: what they stand for is then empty or not known.
  public init(from decoder: any Decoder) throws {
    let keys = try decoder.container(keyedBy: CodingKeys.self)
    routes = try keys.decodeIfPresent([Route].self, forKey: .routes) ?? []
    losses = try keys.decodeIfPresent([Loss].self, forKey: .losses) ?? []
    gaps = try keys.decodeIfPresent([Gap].self, forKey: .gaps) ?? []
    coverage = try keys.decodeIfPresent([Coverage].self, forKey: .coverage) ?? []
    blindSpots = try keys.decodeIfPresent([BlindSpot].self, forKey: .blindSpots) ?? []
    sampling = try keys.decodeIfPresent(Sampling.self, forKey: .sampling)
    excludedEvents = try keys.decodeIfPresent(UInt64.self, forKey: .excludedEvents) ?? 0
    startNanoseconds = try keys.decodeIfPresent(Int64.self, forKey: .startNanoseconds)
    endNanoseconds = try keys.decodeIfPresent(Int64.self, forKey: .endNanoseconds)
    recorderCPUNanoseconds = try keys.decodeIfPresent(UInt64.self, forKey: .recorderCPUNanoseconds)
  }

  // MARK: Derived

  public var durationNanoseconds: Int64? {
    guard let startNanoseconds, let endNanoseconds, endNanoseconds >= startNanoseconds else { return nil }
    return endNanoseconds &- startNanoseconds
  }

  /// CPU time of the recorder as a share of one CPU's, over the recording.
  public var shareOfOneCPU: Double? {
    guard let recorderCPUNanoseconds, let durationNanoseconds, durationNanoseconds > 0 else { return nil }
    return Double(recorderCPUNanoseconds) / Double(durationNanoseconds)
  }

  /// Events lost by one cause, or by all; nil when that is not known.
  public func lostEvents(_ cause: GapCause? = nil) -> UInt64? {
    var sum: UInt64 = 0
    for loss in losses where cause == nil || loss.cause == cause!.name {
      guard let events = loss.events else { return nil }
      sum &+= events
    }
    return sum
  }

  // MARK: Filling

  /// Counts a gap event.
  public mutating func note(gap: TraceEvent) {
    let cause = (GapCause(rawValue: gap.result) ?? .unknown).name
    if let position = losses.firstIndex(where: { $0.cause == cause }) {
      losses[position].gaps += 1
      if let sum = losses[position].events, let more = gap.sizeIfKnown {
        losses[position].events = sum &+ more
      } else {
        losses[position].events = nil
      }
    } else {
      losses.append(Loss(cause: cause, gaps: 1, events: gap.sizeIfKnown))
    }
    guard gaps.count < Self.listedGaps else { return }
    gaps.append(
      Gap(
        startNanoseconds: gap.startNanoseconds, durationNanoseconds: gap.latencyIfKnown, events: gap.sizeIfKnown, cause: cause,
        processID: gap.processIfKnown, threadID: gap.threadIfKnown))
  }

  /// Notes a blind spot that was met `count` times; 0 notes nothing.
  public mutating func note(blindSpot name: String, count: UInt64, remedy: String? = nil) {
    guard count > 0 else { return }
    if let position = blindSpots.firstIndex(where: { $0.name == name }) {
      blindSpots[position].count &+= count
    } else {
      blindSpots.append(BlindSpot(name: name, count: count, remedy: remedy))
    }
  }
}
