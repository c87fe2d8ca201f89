import ArgumentParser
import TraceKit

/// How a trace is replayed: the options that every command shares that makes runs. Engine and target are not among them: `run`
/// takes one of each, `compare` several.
struct ReplayArguments: ParsableArguments {
  @Option(help: "original, a factor (2x, 0.5x), a rate (10000/s), or max.", transform: parseSpeed) var speed = ReplaySpeed.factor(1)
  @Option(
    help: """
      streams: a recorded thread's requests follow each other; dependencies: also overlapping ones, and barriers; schedule: open \
      loop; depth: times ignored (with --speed max).
      """)
  var order = ReplayOrder.streams
  @Flag(help: "With --speed max and an order that has dependencies: keep the pauses of recorded threads.") var thinkTime = false
  @Option(help: "When the replay falls behind: burst (catch up), shift (move the schedule) or drop (skip).") var late = LatePolicy.burst
  @Option(help: "Worker threads (default: one per recorded thread, at most \(ReplayOptions.defaultMaximumWorkers)).") var workers: Int?
  @Option(help: "Worker threads share the recorded threads (thread) or the files (file).") var by = WorkerDivision.threads
  @Option(help: ArgumentHelp("CPUs that workers are pinned to, one after the other: 0,2-5.", valueName: "list"), transform: parseCPUs)
  var cpus: [Int] = []
  @Option(
    help: "Requests in flight per worker (default: \(EngineOptions.defaultIodepth); 1 for engines that complete one request at a time).")
  var iodepth: Int?
  @Flag(help: "io_uring: a kernel thread polls the submission queue.") var sqpoll = false
  @Flag(help: "io_uring: completions are polled for; takes O_DIRECT and a device that can be polled.") var iopoll = false
  @Flag(help: "io_uring: register the buffers; pins their memory.") var fixed = false
  @Option(help: "How descriptors are waited for: auto, epoll or io_uring, which also makes ring operations of sends and receives.")
  var eventLoop = EventLoopChoice.automatic
  @Flag(help: "net: wait for the peer to connect to the target's address instead of connecting to it.") var listen = false
  @Option(
    name: .customLong("timeout"), help: "net, nbd: give up on a peer that does nothing for this long.", transform: parseDuration)
  var peerTimeout: Int64 = NetworkOptions.defaultTimeoutNanoseconds
  @Flag(help: "net: two connections, writes go out on the first and reads come in on the second.") var duplex = false
  @Flag(help: "net: move data by vmsplice and splice (TCP and Unix sockets).") var splice = false
  @Flag(inversion: .prefixedNo, help: "net: digests of what was sent and received, which both ends compare.") var digest = true
  @Option(
    help: ArgumentHelp("splice: capacity of the pipe (64KiB, 1MiB; default: the longest request's).", valueName: "size"),
    transform: parseSize)
  var pipeSize: UInt64?
  @Option(
    help: "libaio: the kernel context is released after this long without requests, and set up again when needed.",
    transform: parseDuration)
  var idleRelease: Int64 = EngineOptions().idleReleaseNanoseconds
  @Option(
    help: ArgumentHelp(
      "A target for a recorded path or for all paths below one; several may share one file or device, each with an ,offset=BYTES of its own; repeatable.",
      valueName: "recorded=target[,offset=bytes]"))
  var map: [String] = []
  @Option(help: ArgumentHelp("Add this to every offset.", valueName: "bytes"), transform: parseSize) var offset: UInt64 = 0
  @Option(help: "Requests beyond the end of an existing target: error, modulo (start again) or scale (all offsets shrink).")
  var wrap = TargetWrap.error
  @Flag(
    help:
      "Check what reads bring during the run, and what was written after it; exit with 1 when something else is there. Data are made and compared outside the measured times, yet slow the run down."
  )
  var verify = false
  @Flag(help: "Every request with O_DIRECT, whatever was recorded.") var direct = false
  @Flag(help: "No request with O_DIRECT.") var buffered = false
  @Flag(help: "Every write synchronous, as with O_SYNC.") var sync = false
  @Flag(help: "Evict the targets from the page cache first.") var cold = false
  @Option(help: ArgumentHelp("system: drop the page cache of the whole machine first; needs root.", valueName: "what"))
  var dropCaches: String?
  @Option(help: ArgumentHelp("How well written data compresses.", valueName: "percent")) var compressible = 0
  @Option(help: "Folder in which the scratch folder is made (default: $TMPDIR or /tmp).") var scratch: String?
  @Flag(help: "Keep the scratch files and say where they are.") var keepScratch = false
  @Flag(help: "Permit writing to targets that existed before. Their content is lost.") var allowWrites = false
  @Option(help: "Only requests that start this long after the first event or later (1.5s, 200ms, plain seconds).", transform: parseDuration)
  var from: Int64?
  @Option(help: "Only requests that start before this.", transform: parseDuration) var to: Int64?
  @Option(help: "Only one kind: read, write, fsync, fdatasync, truncate or discard.", transform: parseKind) var only: IOOperation.Kind?
  @Option(help: ArgumentHelp("Only files whose recorded path matches; repeatable.", valueName: "glob")) var file: [String] = []
  @Option(help: "Replay the trace this many times, one after the other.") var loops = 1
  @Option(help: "Later than this counts as late.", transform: parseDuration) var lagBudget: Int64 = 1_000_000
  @Option(help: "Seed of the written data.") var seed: UInt64 = 1

  func validate() throws {
    if let workers, workers < 1 || workers > 1024 { throw ValidationError("--workers \(workers): 1 to 1024") }
    if loops < 1 || loops > 1_000_000 { throw ValidationError("--loops \(loops): 1 to 1000000") }
    if order == .depth, speed.isTimed { throw ValidationError("--order depth ignores times and needs --speed max") }
    if let iodepth, iodepth < 1 || iodepth > EngineOptions.maximumIodepth {
      throw ValidationError("--iodepth \(iodepth): 1 to \(EngineOptions.maximumIodepth)")
    }
    for rule in map where !rule.contains("=") || rule.hasPrefix("=") || rule.hasSuffix("=") {
      throw ValidationError("--map \(PrintableText.escaped(rule)): RECORDED=TARGET")
    }
    if peerTimeout <= 0 { throw ValidationError("--timeout: longer than nothing") }
    for rule in map where parseRule(rule) == nil {
      throw ValidationError("--map \(PrintableText.escaped(rule)): the offset is a size, as in ,offset=1GiB")
    }
    if direct, buffered { throw ValidationError("--direct and --buffered exclude each other") }
    if let dropCaches, dropCaches != "system" {
      throw ValidationError("--drop-caches \(PrintableText.escaped(dropCaches)): only 'system' is known; --cold evicts the targets only")
    }
    if !(0...100).contains(compressible) { throw ValidationError("--compressible \(compressible): 0 to 100") }
    if let from, let to, from >= to { throw ValidationError("--from must lie before --to") }
  }

  /// The options of one run.
  /// - Parameter reservedPaths: the trace, and what the run writes besides its targets: never a target.
  func options(engine: String, target: String?, reservedPaths: [String]) -> ReplayOptions {
    var options = ReplayOptions()
    options.engine = engine
    options.speed = speed
    options.order = order
    options.late = late
    options.keepsThinkTime = thinkTime
    options.workers = workers
    options.division = by
    options.cpus = cpus
    options.engineOptions.iodepth = iodepth
    options.engineOptions.submissionPolling = sqpoll
    options.engineOptions.completionPolling = iopoll
    options.engineOptions.fixedBuffers = fixed
    options.engineOptions.network.listens = listen
    options.engineOptions.network.timeoutNanoseconds = peerTimeout
    options.engineOptions.network.isDuplex = duplex
    options.engineOptions.network.splices = splice
    options.engineOptions.network.computesDigests = digest
    options.engineOptions.pipeBytes = pipeSize.map { Int($0) }
    options.engineOptions.eventLoop = eventLoop
    options.engineOptions.idleReleaseNanoseconds = idleRelease
    options.lagBudgetNanoseconds = lagBudget
    options.fromNanoseconds = from
    options.toNanoseconds = to
    options.only = only
    options.fileGlobs = file
    options.loops = loops
    options.seed = seed
    options.targets.target = target
    options.verifies = verify
    options.compressiblePercent = compressible
    options.cacheUse = direct ? .direct : buffered ? .buffered : .recorded
    options.synchronousWrites = sync
    options.targets.map = map.compactMap(parseRule)
    options.targets.offsetBytes = offset
    options.targets.wrap = wrap
    options.targets.cold = cold
    options.targets.dropsSystemCaches = dropCaches != nil
    options.targets.scratch = scratch
    options.targets.keepScratch = keepScratch
    options.targets.allowWrites = allowWrites
    options.targets.reservedPaths = reservedPaths
    return options
  }
}

extension ReplayOrder: ExpressibleByArgument {}
extension TargetWrap: ExpressibleByArgument {}
extension EventLoopChoice: ExpressibleByArgument {}
extension LatePolicy: ExpressibleByArgument {}
extension WorkerDivision: ExpressibleByArgument {}

private func parseCPUs(_ text: String) throws -> [Int] {
  guard let list = CPUList.parse(text) else {
    throw ValidationError("--cpus \(PrintableText.escaped(text)): numbers and ranges, as in 0,2-5")
  }
  return list
}

private func parseSpeed(_ text: String) throws -> ReplaySpeed {
  guard let speed = ReplaySpeed(text) else {
    throw ValidationError("'\(PrintableText.escaped(text))' is no speed: original, 2x, 10000/s or max")
  }
  return speed
}

func parseDuration(_ text: String) throws -> Int64 {
  guard let value = DurationText.nanoseconds(text) else {
    throw ValidationError("'\(PrintableText.escaped(text))' is no duration: 1.5s, 200ms, 10us")
  }
  return value
}

/// `RECORDED=TARGET` or `RECORDED=TARGET,offset=BYTES`; nil when the offset is no size.
private func parseRule(_ text: String) -> TargetRule? {
  guard let separator = text.firstIndex(of: "=") else { return nil }
  let recorded = String(text[..<separator])
  let target = text[text.index(after: separator)...]
  let mark = ",offset="
  guard let place = target.indices.last(where: { target[$0...].hasPrefix(mark) }) else { return TargetRule(recorded, String(target)) }
  guard let offset = ByteCount.bytes(String(target[place...].dropFirst(mark.count))) else { return nil }
  return TargetRule(recorded, String(target[..<place]), offsetBytes: offset)
}

private func parseSize(_ text: String) throws -> UInt64 {
  guard let bytes = ByteCount.bytes(text) else {
    throw ValidationError("'\(PrintableText.escaped(text))' is no size: 4096, 64KiB, 1MiB, 2GiB")
  }
  return bytes
}

func parseKind(_ text: String) throws -> IOOperation.Kind {
  guard let kind = IOOperation.Kind.allCases.first(where: { $0.name == text }) else {
    throw ValidationError(
      "'\(PrintableText.escaped(text))' is no operation that is replayed: \(IOOperation.Kind.allCases.map(\.name).joined(separator: ", "))")
  }
  return kind
}
