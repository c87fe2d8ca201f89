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

  public var name: String {
    switch self {
    case .factor(1): "original"
    case .factor(let factor): "\(Self.short(factor))x"
    case .rate(let rate): "\(Self.short(rate))/s"
    case .maximum: "max"
    }
  }

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

/// How a trace is replayed.
public struct ReplayOptions: Sendable {
  public var engine = "sync"
  public var speed = ReplaySpeed.factor(1)
  public var order = ReplayOrder.streams
  public var late = LatePolicy.burst
  /// Most worker threads; nil for one per recorded thread, up to `defaultMaximumWorkers`.
  public var workers: Int?
  public static let defaultMaximumWorkers = 64
  /// By what requests are divided over workers.
  public var division = WorkerDivision.threads
  /// CPUs that workers are pinned to, one after the other; empty for none.
  public var cpus: [Int] = []
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
  public var loops = 1
  /// Seed of the write payloads.
  public var seed: UInt64 = 1
  /// Write a log of the replay, a trace, to this path.
  public var logPath: String?
  public var overwriteLog = false
  public var targets = TargetOptions()
  public init() {}
}

/// Where requests go.
public struct TargetOptions: Sendable {
  /// One target for everything: a file or device (the trace must have one file), or a folder.
  public var target: String?
  /// Recorded path, or prefix of paths, and the target that stands for it.
  public var map: [(recorded: String, target: String)] = []
  /// Folder in which the scratch folder is made.
  public var scratch: String?
  public var keepScratch = false
  /// Permission to write to targets that existed before.
  public var allowWrites = false
  /// Files that the replay itself writes (report, log) or reads (the trace): never a target.
  public var reservedPaths: [String] = []
  public init() {}
}
