import CTrace

/// The loop that takes requests from a queue, waits until they are due, and lets an engine do them. Generic over the engine so
/// that everything inside specialises; one worker is one thread.
struct ReplayWorker<Engine: IOEngine & ~Copyable>: ~Copyable {
  var engine: Engine
  let queue: RequestQueue
  let control: ReplayControl
  let tally: UnsafeMutablePointer<WorkerTally>
  let buffers: WorkerBuffers
  let claimLimit: Int
  let iodepth: Int
  var log: ReplayLog.Channel?
  // Copies of what `control` has, since properties of classes are checked at each access.
  let destinations: UnsafeMutablePointer<ReplayControl.Destination>
  let schedule: ReplaySchedule
  let isTimed: Bool
  let tracksInversions: Bool
  var think: ThinkClock
  var dependencies: DependencyClock
  /// When the last request would have ended, had the replayer lost no time; nanoseconds after the start.
  var undelayedEnd: Int64 = 0
  /// What `--verify` needs of each slot; nil without it.
  let checks: CheckedSlots?
  /// CLOCK_MONOTONIC of the replay's time 0.
  var anchor: Int64 = 0
  /// The next request goes the same way and is due; only with engines that look ahead.
  var isFollowed = false

  /// Runs one worker to its end on the calling thread.
  static func run(_ setup: WorkerSetup) {
    let control = setup.control
    if let cpu = setup.cpu { ctrace_pin_thread(Int32(cpu)) }
    Pacer.useFineTimers()
    // With a table that no other thread uses the kernel takes descriptors without counting references (fdget in fs/file.c): the
    // replayed calls cost what they cost a program of one thread. A sandbox that forbids it only makes them slower.
    _ = ctrace_unshare_files()
    do throws(TraceError) {
      var worker = try ReplayWorker(setup)
      setup.result.conditions = worker.engine.conditions
      guard control.enter() else { return }
      worker.anchor = control.anchor
      if Engine.isAsynchronous {
        worker.runInFlight()
      } else if let shared = setup.dependencies {
        worker.runWithDependencies(shared)
      } else {
        worker.runOneByOne()
      }
      worker.log?.finish()
      setup.result.verification = worker.checks?.result
      worker.engine.finish()
      // Some of it is only known after the requests.
      setup.result.conditions = worker.engine.conditions
      if let failure = worker.engine.failure { control.doubt(failure) }
    } catch {
      control.fail(error)
      _ = control.enter()
    }
  }

  private init(_ setup: WorkerSetup) throws(TraceError) {
    let control = setup.control
    let slots = Engine.isAsynchronous ? InFlightTable.slots(iodepth: setup.iodepth, order: control.order) : 1
    let verification = Engine.needsTargets ? control.verification : nil
    checks = verification.map {
      CheckedSlots(
        $0, slots: slots, largestBytes: control.largestRequestBytes, isRegistered: control.engineOptions.fixedBuffers)
    }
    buffers = WorkerBuffers(
      largestBytes: Engine.needsTargets ? control.largestRequestBytes : 0, slots: slots, isExclusive: verification != nil)
    var configuration = EngineConfiguration(
      options: control.engineOptions, iodepth: setup.iodepth, slots: slots,
      descriptors: Engine.needsTargets ? control.descriptors : [], readArena: buffers.arena,
      writeArena: checks?.arena ?? control.payload.memory, largestRequestBytes: control.largestRequestBytes)
    configuration.connection = setup.connection
    engine = try Engine(configuration)
    queue = setup.queue
    self.control = control
    tally = setup.result.tally
    claimLimit = setup.claimLimit
    iodepth = setup.iodepth
    log = setup.log
    destinations = control.destinations
    schedule = control.schedule
    isTimed = control.isTimed
    tracksInversions = control.tracksInversions
    think = ThinkClock(isEnabled: control.keepsThinkTime)
    dependencies = DependencyClock(
      isEnabled: control.isTimed && control.order.hasDependencies && !Engine.isAsynchronous && setup.dependencies == nil)
  }

  deinit { buffers.deallocate() }

  // MARK: Engines that complete one request at a time

  private mutating func runOneByOne() {
    while let claim = queue.claim(claimLimit) {
      // Waiting for the queue is not part of the first request.
      var now = ctrace_monotonic_ns()
      for i in claim.range {
        if ctrace_stop_signal() != 0 { break }
        if hasEnded { break }
        if Engine.looksAhead {
          isFollowed = i + 1 < claim.range.upperBound && isDue(claim.batch.requests + i + 1, claim.batch, after: claim.batch.requests + i)
        }
        let request = UnsafePointer(claim.batch.requests + i)
        now = perform(request, claim.batch, now: now, ready: dependencies.isEnabled ? dependencies.ready(request) : DependencyClock.never)
        dependencies.finish(request, undelayedEnd: undelayedEnd)
      }
      reportProgress(claim.range.count)
      queue.release(claim.batch, claim.range.count)
      if ctrace_stop_signal() != 0 || hasEnded { break }
    }
  }

  /// Whether a request of the same kind as the one before it is due by now.
  private func isDue(_ next: UnsafePointer<ReplayRequest>, _ batch: RequestBatch, after one: UnsafePointer<ReplayRequest>) -> Bool {
    guard next.pointee.kind == one.pointee.kind else { return false }
    guard isTimed else { return true }
    let ordinal = batch.firstOrdinal &+ UInt64(next.pointee.ordinalOffset)
    return anchor &+ schedule.due(startNanoseconds: next.pointee.startNanoseconds, ordinal: ordinal) &+ control.shift
      <= ctrace_monotonic_ns()
  }

  /// No worker can do more, since a peer is gone; files are always there.
  @inline(__always)
  var hasEnded: Bool { Engine.targetKind != .files && control.hasEnded }

  /// An operation failed: when the engine can do no more, the run ends.
  @inline(never)
  func noteFailure() {
    if let failure = engine.failure { control.end(failure) }
  }

  /// Does one request; the clock is read once after it, and that time begins the next one.
  /// - Parameter ready: when what it must follow would have ended, had the replayer lost no time; nanoseconds after the start.
  @inline(__always)
  mutating func perform(_ request: UnsafePointer<ReplayRequest>, _ batch: RequestBatch, now: Int64, ready: Int64) -> Int64 {
    let ordinal = batch.firstOrdinal &+ UInt64(request.pointee.ordinalOffset)
    let number = batch.firstNumber &+ UInt64(request.pointee.numberOffset)
    var due: Int64 = 0
    var submitted = now
    if isTimed {
      due = schedule.due(startNanoseconds: request.pointee.startNanoseconds, ordinal: ordinal) &+ control.shift
      if now < anchor &+ due {
        submitted = control.pacer.wait(until: anchor &+ due, from: now)
        if submitted < anchor &+ due { return submitted }
      } else if let late = lateness(due, now) {
        if control.late == .drop { return now }
        due = late
      }
      tally.pointee.recordSubmission(due: due, submitted: submitted &- anchor)
    } else if think.isEnabled {
      let earliest = anchor &+ think.earliest(request)
      if now < earliest {
        submitted = control.pacer.wait(until: earliest, from: now)
        if submitted < earliest { return submitted }
      }
    }
    if tracksInversions { control.noteSubmission(number) }
    var next = operation(request, number: number, slot: 0)
    if checks != nil { submitted = beginCheck(&next, request.pointee.file, number: number, slot: 0) }
    let outcome = engine.queue(next, slot: 0).rawValue
    let completed = ctrace_monotonic_ns()
    let undelayed = max(due, ready)
    undelayedEnd = undelayed &+ (completed &- submitted)
    tally.pointee.record(
      request, number: number, ordinal: ordinal, due: due, undelayed: undelayed, submitted: submitted &- anchor,
      completed: completed &- anchor, result: outcome)
    if log != nil {
      log!.append(request.pointee, number: number, submitted: submitted &- anchor, completed: completed &- anchor, result: outcome)
    }
    if outcome < 0, Engine.targetKind != .files { noteFailure() }
    think.finish(request, completed: completed &- anchor)
    if let checks {
      checks.end(slot: 0, result: outcome)
      return ctrace_monotonic_ns()
    }
    return completed
  }

  /// For people who watch.
  @inline(__always)
  func reportProgress(_ requests: Int) {
    control.addProgress(UInt64(requests), errors: tally.pointee.takeNewErrors(), lag: tally.pointee.lastLag)
  }

  /// `--verify`: makes the data of a write, and remembers the request. Returns the time, so that this is no part of its latency.
  @inline(never)
  func beginCheck(_ operation: inout IOOperation, _ file: UInt32, number: UInt64, slot: Int) -> Int64 {
    checks!.begin(&operation, slot: slot, target: destinations[Int(file)].primary, request: number)
    return ctrace_monotonic_ns()
  }

  /// What `--late` makes of a request that is due before now: nil when nothing, its moved due time with `shift`. A dropped one is
  /// counted here.
  @inline(__always)
  func lateness(_ due: Int64, _ now: Int64) -> Int64? {
    guard control.late != .burst, now &- (anchor &+ due) > control.lagBudget else { return nil }
    if control.late == .drop {
      tally.pointee.recordDrop()
      return due
    }
    let lag = now &- (anchor &+ due)
    control.addShift(lag)
    return due &+ lag
  }

  @inline(__always)
  func operation(_ request: UnsafePointer<ReplayRequest>, number: UInt64, slot: Int) -> IOOperation {
    let kind = request.pointee.kind
    var offset = request.pointee.offsetBytes
    let length = request.pointee.lengthBytes
    var operation = IOOperation(
      kind: kind, isBlockDevice: false, fileDescriptor: -1, flags: Int32(request.pointee.callFlags), buffer: nil, offsetBytes: offset,
      lengthBytes: length)
    guard Engine.needsTargets else { return operation }
    if Engine.looksAhead { operation.isFollowed = isFollowed }
    let file = Int(request.pointee.file)
    let destination = destinations[file]
    offset = destination.placement.place(offset, length)
    operation.offsetBytes = offset
    operation.isBlockDevice = destination.isBlockDevice
    operation.fileDescriptor = destination.descriptor
    operation.fileIndex = Int32(truncatingIfNeeded: file * 2)
    if destination.directDescriptor >= 0, request.pointee.flags.contains(.direct),
      (offset | Int64(length)) & destination.directMask == 0
    {
      operation.fileDescriptor = destination.directDescriptor
      operation.fileIndex += 1
      operation.isDirect = true
    }
    if kind == .write {
      operation.buffer = control.payload.slice(file: request.pointee.file, offset: offset, sequence: number)
    } else if kind == .read {
      operation.buffer = buffers.memory(slot: slot, bytes: length)
    }
    return operation
  }
}
