import CTrace
import Glibc

/// A request of libaio is known by the address of its iocb while it is in flight.
struct AioKey: Hashable {
  var process: Int32
  var address: UInt64
}

/// What an iocb asked for.
struct AioRequest: BitwiseCopyable {
  var startNanoseconds: UInt64
  var thread: Int32
  var description: Int32
  var operation: UInt8
  var flags: UInt32
  var offsetBytes: UInt64
  var sizeBytes: UInt64
}

/// Requests of libaio, where programs in the kernel read them from the program's memory.
extension SyscallStream {
  /// Bytes of struct iocb and struct io_event (linux/aio_abi.h).
  private static let iocbBytes = 64
  private static let ioEventBytes = 32

  /// The begin of io_submit; a completion may come before its end.
  mutating func submitAio(_ index: Int32, _ event: RingPage.Event, _ records: inout RecordBuffer) {
    let thread = threads[index].pointee
    var addresses: [UInt64] = []
    var place = Self.iocbBytes
    while place + Self.iocbBytes <= event.length {
      let iocb = event.bytes + place
      place += Self.iocbBytes
      // The program in the kernel puts the address where nobody else puts anything (aio_reserved2).
      let key = AioKey(process: thread.process, address: iocb.load(fromByteOffset: 48, as: UInt64.self))
      if let old = aioRequests.removeValue(forKey: key) { forgetAio(old, key.process, &records) }
      aioRequests[key] = request(iocb, thread, event.nanoseconds)
      addresses.append(key.address)
    }
    aioSubmissions[index] = addresses.isEmpty ? nil : addresses
  }

  private mutating func request(_ iocb: UnsafeRawPointer, _ thread: Thread, _ time: UInt64) -> AioRequest {
    let description = describe(thread.process, Int32(bitPattern: iocb.load(fromByteOffset: 20, as: UInt32.self)), time)
    if description >= 0 { open.retain(description) }
    var flags = TraceEventFlags.asynchronous.rawValue | Self.requestFlags(UInt64(iocb.load(fromByteOffset: 12, as: UInt32.self)))
    var (operation, size, offset) = (TraceOperation.other, TraceEvent.unknownSize, TraceEvent.unknownOffset)
    switch iocb.load(fromByteOffset: 16, as: UInt16.self) {
    case 0: operation = .read
    case 1: operation = .write
    case 2: operation = .fsync
    case 3: operation = .fdatasync
    case 7: (operation, flags) = (.read, flags | TraceEventFlags.vectored.rawValue)
    case 8: (operation, flags) = (.write, flags | TraceEventFlags.vectored.rawValue)
    default: break
    }
    if operation == .read || operation == .write {
      if flags & TraceEventFlags.vectored.rawValue == 0 { size = iocb.load(fromByteOffset: 32, as: UInt64.self) }
      let position = iocb.load(fromByteOffset: 40, as: Int64.self)
      if position >= 0 { offset = UInt64(position) }
    }
    return AioRequest(
      startNanoseconds: time, thread: thread.number, description: description, operation: operation.rawValue, flags: flags,
      offsetBytes: offset, sizeBytes: size)
  }

  /// The end of a call that submits or fetches requests.
  mutating func finishAio(
    _ kind: SyscallKind, _ index: Int32, _ event: RingPage.Event, _ result: Int64, _ records: inout RecordBuffer
  ) {
    let isRecorded = event.nanoseconds >= scope.attachedNanoseconds
    let process = threads[index].pointee.process
    if kind == .ioSubmit {
      if isRecorded { counters.aioSubmitted += UInt64(max(0, result)) }
      let addresses = aioSubmissions.removeValue(forKey: index) ?? []
      let accepted = Int(max(0, min(result, Int64(addresses.count))))
      if isRecorded { counters.aioRead += UInt64(accepted) }
      // The kernel takes them in their order, up to the first that it does not.
      for address in addresses[accepted...] { dropAio(AioKey(process: process, address: address)) }
      return
    }
    guard result > 0 else { return }
    if isRecorded { counters.aioCompleted += UInt64(result) }
    let count = min(Int(result), (event.length - Self.iocbBytes) / Self.ioEventBytes)
    for i in 0..<max(0, count) {
      let completion = event.bytes + Self.iocbBytes + i * Self.ioEventBytes
      let key = AioKey(process: process, address: completion.load(fromByteOffset: 8, as: UInt64.self))
      guard let request = aioRequests.removeValue(forKey: key) else { continue }
      if isRecorded {
        counters.aioMatched += 1
        append(request, process, end: event.nanoseconds, completion.load(fromByteOffset: 16, as: Int64.self), &records)
      }
      if request.description >= 0 { open.release(request.description) }
    }
  }

  private mutating func dropAio(_ key: AioKey) {
    if let request = aioRequests.removeValue(forKey: key), request.description >= 0 { open.release(request.description) }
  }

  /// A request whose iocb was submitted again: its completion was taken out of the ring in the program's memory.
  private mutating func forgetAio(_ request: AioRequest, _ process: Int32, _ records: inout RecordBuffer) {
    if request.startNanoseconds >= scope.attachedNanoseconds { append(request, process, end: nil, TraceEvent.unknownResult, &records) }
    if request.description >= 0 { open.release(request.description) }
  }

  /// A process has ended, and with it what it had in flight.
  mutating func dropAio(of process: Int32) {
    for key in aioRequests.keys.filter({ $0.process == process }) { dropAio(key) }
  }

  private mutating func append(
    _ request: AioRequest, _ process: Int32, end: UInt64?, _ result: Int64, _ records: inout RecordBuffer
  ) {
    var record = trace_record()
    record.operation = request.operation
    record.offset = request.offsetBytes
    record.size = request.sizeBytes
    record.result = result
    record.thread_id = request.thread
    record.flags = request.flags
    record.start_ns = max(request.startNanoseconds, scope.attachedNanoseconds)
    if request.startNanoseconds < scope.attachedNanoseconds { record.flags |= TraceEventFlags.inFlightAtAttach.rawValue }
    record.latency_ns = end.map { $0 - record.start_ns } ?? UInt64(bitPattern: TraceEvent.unknownLatency)
    if record.size == TraceEvent.unknownSize, result >= 0, request.flags & TraceEventFlags.vectored.rawValue != 0 {
      record.size = UInt64(result)
    }
    if request.description >= 0 {
      let description = open.descriptions[request.description]
      record.description = description.pointee.number
      if description.pointee.flags != UInt32.max { record.flags |= description.pointee.flags }
      if request.operation == TraceOperation.write.rawValue, result > 0 {
        if record.flags & TraceEventFlags.append.rawValue != 0 {
          append(request.description, end ?? record.start_ns, result, movesPosition: false, &record)
        } else if request.offsetBytes != TraceEvent.unknownOffset {
          open.extend(request.description, to: Int64(clamping: request.offsetBytes) &+ result)
        }
      }
    } else {
      counters.requestsWithoutFile += 1
    }
    records.append(record, process: processes[Int(process)].number)
  }
}
