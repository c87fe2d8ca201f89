/// When requests are due.
public enum ReplaySpeed: Hashable, Sendable {
  /// Recorded times divided by a factor; 1 is the original speed.
  case factor(Double)
  /// A fixed rate in requests per second; recorded times are ignored.
  case rate(Double)
  /// As fast as the order allows.
  case maximum

  /// `original`, `2x`, `0.5x`, `10000/s` or `max`; nil for anything else.
  public init?(_ text: String) {
    func positive(_ digits: Substring) -> Double? {
      guard let value = Double(digits), value.isFinite, value > 0 else { return nil }
      return value
    }
    if text == "original" {
      self = .factor(1)
    } else if text == "max" {
      self = .maximum
    } else if text.hasSuffix("/s"), let rate = positive(text.dropLast(2)), rate <= 1e9 {
      self = .rate(rate)
    } else if text.hasSuffix("x"), let factor = positive(text.dropLast()), factor >= 1e-6, factor <= 1e9 {
      self = .factor(factor)
    } else {
      return nil
    }
  }

  /// As it is written on the command line.
  public var name: String {
    switch self {
    case .factor(1): "original"
    case .factor(let factor): "\(Self.short(factor))x"
    case .rate(let rate): "\(Self.short(rate))/s"
    case .maximum: "max"
    }
  }

  /// Requests have a time at which they are due.
  public var isTimed: Bool { self != .maximum }

  private static func short(_ value: Double) -> String { value == value.rounded() ? String(Int64(value)) : String(value) }
}

/// When a request may start.
public enum ReplayOrder: String, CaseIterable, Sendable {
  /// When it is due, whichever worker is free.
  case schedule
  /// When it is due and the previous request of its recorded thread has completed, if it had then.
  case streams
  /// When it is due and every request has completed that had completed before it started, and that it can depend on: of the same
  /// thread, overlapping bytes that one of them writes, or a barrier such as fsync on the same file.
  case dependencies
  /// When a slot in flight is free; times are ignored.
  case depth

  /// Requests wait for others.
  var hasDependencies: Bool { self == .streams || self == .dependencies }
}

/// How requests are dealt out to workers when each has a queue of its own.
public enum WorkerDivision: String, CaseIterable, Sendable {
  /// All requests of a recorded thread go to one worker.
  case threads = "thread"
  /// All requests of a file go to one worker.
  case files = "file"
}

/// What happens when the replay falls behind its schedule.
public enum LatePolicy: String, CaseIterable, Sendable {
  /// Catch up.
  case burst
  /// Move the rest of the schedule.
  case shift
  /// Skip requests that are later than the lag budget, and count them.
  case drop
}

/// What happens to requests that lie beyond a target's end.
public enum TargetWrap: String, CaseIterable, Sendable {
  /// The replay is refused.
  case error
  /// Offsets are taken modulo the target's size.
  case modulo
  /// Offsets are multiplied by the target's size over the recorded one.
  case scale
}

/// Which requests go round the page cache.
public enum CacheUse: String, Sendable {
  /// Those that were recorded with O_DIRECT.
  case recorded
  /// All of them, with O_DIRECT.
  case direct
  /// None of them.
  case buffered
}

/// How a trace is replayed.
public struct ReplayOptions: Sendable {
  /// Name in the `EngineRegistry`.
  public var engine = "sync"
  /// When requests are due.
  public var speed = ReplaySpeed.factor(1)
  /// What requests wait for.
  public var order = ReplayOrder.streams
  /// What happens to requests that are later than the lag budget.
  public var late = LatePolicy.burst
  /// At maximum speed with an order that has dependencies: the pauses of recorded threads between their requests are kept.
  public var keepsThinkTime = false
  /// Most worker threads; nil for one per recorded thread, up to `defaultMaximumWorkers`.
  public var workers: Int?
  /// Most workers unless the user says otherwise.
  public static let defaultMaximumWorkers = 64
  /// By what requests are divided over workers.
  public var division = WorkerDivision.threads
  /// CPUs that workers are pinned to, one after the other; empty for none.
  public var cpus: [Int] = []
  /// Settings of the engine; what it has no use for it refuses.
  public var engineOptions = EngineOptions()
  /// A request later than this counts as late.
  public var lagBudgetNanoseconds: Int64 = 1_000_000
  /// Only requests that start at or after (before) this time, in nanoseconds from the first event of the trace.
  public var fromNanoseconds: Int64?
  public var toNanoseconds: Int64?
  /// Only this direction.
  public var only: IOOperation.Kind?
  /// Only files whose recorded path matches one of these globs (fnmatch(3), `*` also matches `/`).
  public var fileGlobs: [String] = []
  /// How often the trace is replayed, one time after the other; at least 1.
  public var loops = 1
  /// Seed of the write payloads.
  public var seed: UInt64 = 1
  /// How many percent of each 512 bytes of the write payloads are zeros, 0 to 100.
  public var compressiblePercent = 0
  /// Check what is read during the run, and what was written after it.
  public var verifies = false
  /// Called between the opening of the targets and the first request, and between the run and the check after it; seams for tests.
  var beforeRun: (@Sendable ([ReplayTarget]) -> Void)?
  var beforeCheck: (@Sendable ([ReplayTarget]) -> Void)?
  /// O_DIRECT as recorded, or for all requests, or for none.
  public var cacheUse = CacheUse.recorded
  /// Every write is synchronous (RWF_SYNC), whatever was recorded.
  public var synchronousWrites = false
  /// Write a log of the replay, a trace, to this path.
  public var logPath: String?
  /// An existing log may be replaced.
  public var overwriteLog = false
  /// Where requests go.
  public var targets = TargetOptions()
  public init() {}
}

/// A recorded path, or prefix of paths, and the target that stands for it.
public struct TargetRule: Sendable {
  /// A recorded path, or a folder above recorded paths.
  public var recorded: String
  /// An existing file or device, or a folder when `recorded` is one.
  public var target: String
  /// What is added to the offsets of the requests, in bytes.
  public var offsetBytes: UInt64

  public init(_ recorded: String, _ target: String, offsetBytes: UInt64 = 0) {
    self.recorded = recorded
    self.target = target
    self.offsetBytes = offsetBytes
  }
}

/// Where requests go.
public struct TargetOptions: Sendable {
  /// One target for everything: a file or device (the trace must have one file), or a folder.
  public var target: String?
  /// Targets of single files or folders; the longest prefix counts.
  public var map: [TargetRule] = []
  /// What is added to the offsets of all requests, in bytes.
  public var offsetBytes: UInt64 = 0
  /// What happens to requests beyond the end of a target that existed before.
  public var wrap = TargetWrap.error
  /// Evict the targets' pages from the page cache before the run.
  public var cold = false
  /// Drop the page cache of the whole machine before the run.
  public var dropsSystemCaches = false
  /// A target that takes no O_DIRECT is refused.
  var requiresDirect = false
  /// Folder in which the scratch folder is made.
  public var scratch: String?
  /// Scratch files stay when the replay ends.
  public var keepScratch = false
  /// Permission to write to targets that existed before.
  public var allowWrites = false
  /// Files that the replay itself writes (report, log) or reads (the trace): never a target.
  public var reservedPaths: [String] = []
  public init() {}
}
