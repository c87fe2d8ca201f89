import CTrace
import Glibc

/// Requests of io_uring, which outlive the calls that submit them.
extension SyscallStream {
  mutating func uringSubmit(_ number: Int32, _ event: RingPage.Event) {
    guard let fields = events.submit, number > 0, Int(number) < threadLimit else { return }
    var index = threadOfNumber[Int(number)]
    if index == Self.foreign { return }
    if index < 0 {
      // These events come from every process of the machine.
      let group = ProcessSnapshot.threadGroup(of: number)
      let isOurs = scope.takesAll ? group != getpid() : group.map { processOfNumber[$0] != nil } ?? false
      guard isOurs else {
        threadOfNumber[Int(number)] = Self.foreign
        return
      }
      index = group.flatMap { processOfNumber[$0] }.map { makeThread(number, $0, isWorker: true) } ?? discover(number)
    }
    guard index >= 0 else { return }
    let opcode = UInt8(truncatingIfNeeded: fields.opcode.value(event.bytes, event.length))
    if event.nanoseconds >= scope.attachedNanoseconds { uringCounts[Int(opcode)] &+= 1 }
    let request = UInt64(bitPattern: fields.request.value(event.bytes, event.length))
    forget(request)
    var pending = UringRequest(
      startNanoseconds: event.nanoseconds, process: threads[index].pointee.process, thread: number, description: -1, opcode: opcode)
    if let fields = events.submitted, UringOperation.hasPosition(opcode) {
      let position = fields.position.value(event.bytes, event.length)
      // -1 is the description's own position.
      if position >= 0 { pending.offsetBytes = UInt64(position) }
      let length = fields.length.value(event.bytes, event.length)
      // Of a vector the request says how many parts it has; a buffer that the kernel selects has no length yet.
      if length > 0, !UringOperation.isVectored(opcode) { pending.sizeBytes = UInt64(length) }
    }
    requests[request] = pending
  }

  mutating func forget(_ request: UInt64) {
    if let old = requests.removeValue(forKey: request), old.description >= 0 { open.release(old.description) }
  }

  mutating func uringFile(_ event: RingPage.Event) {
    guard let fields = events.file else { return }
    let request = UInt64(bitPattern: fields.request.value(event.bytes, event.length))
    guard let pending = requests[request], pending.description < 0 else { return }
    let descriptor = Int32(truncatingIfNeeded: fields.descriptor.value(event.bytes, event.length))
    let description = describe(pending.process, descriptor, event.nanoseconds)
    guard description >= 0 else { return }
    open.retain(description)
    requests[request]?.description = description
  }

  mutating func uringComplete(_ event: RingPage.Event, _ records: inout RecordBuffer) {
    guard let fields = events.complete else { return }
    let key = UInt64(bitPattern: fields.request.value(event.bytes, event.length))
    guard let request = requests[key] else { return }
    if event.nanoseconds >= scope.attachedNanoseconds {
      counters.uringCompletions += 1
      if let operation = UringOperation.operation(request.opcode) {
        appendUring(request, operation, event.nanoseconds, fields.result.value(event.bytes, event.length), &records)
      }
    }
    // IORING_CQE_F_MORE: further completions of the same request follow.
    if fields.flags.value(event.bytes, event.length) & 2 == 0 { forget(key) }
  }

  mutating func appendUring(
    _ request: UringRequest, _ operation: TraceOperation, _ time: UInt64, _ result: Int64, _ records: inout RecordBuffer
  ) {
    var record = trace_record()
    record.operation = operation.rawValue
    record.offset = TraceEvent.unknownOffset
    record.size = request.sizeBytes
    if record.size == TraceEvent.unknownSize, result >= 0, operation == .read || operation == .write { record.size = UInt64(result) }
    record.result = result
    record.thread_id = request.thread
    record.start_ns = max(request.startNanoseconds, scope.attachedNanoseconds)
    record.flags = TraceEventFlags.asynchronous.rawValue
    if UringOperation.isVectored(request.opcode) { record.flags |= TraceEventFlags.vectored.rawValue }
    if request.startNanoseconds < scope.attachedNanoseconds { record.flags |= TraceEventFlags.inFlightAtAttach.rawValue }
    record.latency_ns = time - record.start_ns
    if request.description >= 0 {
      let description = open.descriptions[request.description]
      record.description = description.pointee.number
      if description.pointee.flags != UInt32.max { record.flags |= description.pointee.flags }
      setOffset(request, time, result, &record)
    } else {
      counters.requestsWithoutFile += 1
      // A registered file: which one is not told, where is.
      record.offset = request.offsetBytes
      if UringOperation.hasPosition(request.opcode), record.offset == TraceEvent.unknownOffset { counters.uringWithoutOffset += 1 }
    }
    records.append(record, process: processes[Int(request.process)].number)
  }

  /// Where a request on a file that has positions reads or writes.
  private mutating func setOffset(_ request: UringRequest, _ time: UInt64, _ result: Int64, _ record: inout trace_record) {
    guard UringOperation.hasPosition(request.opcode), isQuick(request.description) else { return }
    let isWrite = record.operation == TraceOperation.write.rawValue
    if isWrite, record.flags & TraceEventFlags.append.rawValue != 0 {
      // It goes where the file ends, whatever it says.
      append(request.description, time, result, movesPosition: false, &record)
    } else if request.offsetBytes != TraceEvent.unknownOffset {
      record.offset = request.offsetBytes
      if isWrite, result > 0 { open.extend(request.description, to: Int64(clamping: request.offsetBytes) &+ result) }
    }
    if record.offset == TraceEvent.unknownOffset { counters.uringWithoutOffset += 1 }
  }
}
