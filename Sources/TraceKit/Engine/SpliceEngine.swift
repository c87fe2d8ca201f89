import CTrace
import Glibc

/// splice(2) and vmsplice(2): a read moves pages of the file into a pipe and from there to memory, a write moves pages of memory
/// into the pipe and from there to the file. One request at a time; a request longer than the pipe goes in pieces.
///
/// How data leaves the pipe depends on the kernel. The first try gives vmsplice(2) a fresh mapping that only the kernel could put
/// pages into; a kernel that copies instead answers EFAULT, and from then on it copies into the request's own buffer. One that
/// does not vmsplice to user memory at all answers EBADF, and from then on the pipe is read.
public struct SpliceEngine: IOEngine, ~Copyable {
  public static let name = "splice"
  public static let summary = "file, pipe and memory joined by splice and vmsplice, one request at a time per worker"

  /// How bytes get from the pipe to memory, in the order in which the ways are tried.
  enum Delivery: String {
    case freshMapping = "vmsplice to a fresh mapping"
    case ownBuffer = "vmsplice to the request's buffer"
    case read = "read from the pipe"
  }

  /// Calls without progress before a request fails with what they answered.
  static let maximumRetries = 1000
  private static let pageBytes = 4096
  private static let defaultPipeBytes = 1 << 16

  private var readEnd: Int32
  private var writeEnd: Int32
  /// Most bytes that are in the pipe at once. A piece that does not fit would never go through.
  let capacityBytes: Int
  private(set) var delivery = Delivery.freshMapping
  private var calls: SpliceCalls

  public init(_ configuration: EngineConfiguration) throws(TraceError) { try self.init(configuration, calls: SpliceCalls()) }

  init(_ configuration: EngineConfiguration, calls: SpliceCalls) throws(TraceError) {
    self.calls = calls
    (readEnd, writeEnd, capacityBytes) = try Self.makePipe(configuration)
  }

  deinit {
    close(readEnd)
    close(writeEnd)
  }

  public var conditions: [String: String] {
    ["pipe-bytes": String(capacityBytes), "pipe-to-memory": delivery.rawValue]
  }

  public static func meaning(of code: Int32, _ kind: IOOperation.Kind) -> String? {
    guard code == EINVAL, kind == .read || kind == .write else { return nil }
    return "this filesystem does not support splice, or takes no such request with O_DIRECT (Invalid argument); --engine sync does without"
  }

  public static func refusal(of options: EngineOptions) -> String? {
    guard let bytes = options.pipeBytes, bytes < pageBytes || bytes > 1 << 30 else { return nil }
    return "--pipe-size \(bytes): 4KiB to 1GiB"
  }

  // MARK: The pipe

  private static func makePipe(_ configuration: EngineConfiguration) throws(TraceError) -> (Int32, Int32, Int) {
    var ends: [Int32] = [-1, -1]
    guard ctrace_nonblocking_pipe(&ends) == 0 else { throw TraceError(path: "--engine splice", "make a pipe", errno: errno) }
    let set: Int32
    if let wanted = configuration.options.pipeBytes {
      set = ctrace_set_pipe_size(ends[1], Int32(clamping: wanted))
      if set < 0 {
        let code = errno
        ends.forEach { close($0) }
        throw TraceError(
          path: "--pipe-size \(wanted)", "give a pipe that capacity", errno: code,
          hint: "/proc/sys/fs/pipe-max-size is the limit for one pipe, pipe-user-pages-soft beside it for all of a user")
      }
    } else {
      set = enlarge(ends[1], for: configuration.largestRequestBytes)
    }
    return (ends[0], ends[1], Int(set))
  }

  /// Room for the longest request where the system allows it, and for the page more that an unaligned one touches.
  private static func enlarge(_ end: Int32, for largestBytes: Int) -> Int32 {
    let limit = SmallFile.line("/proc/sys/fs/pipe-max-size").flatMap { Int($0) } ?? 1 << 20
    var wanted = min(limit, largestBytes + pageBytes)
    while wanted > defaultPipeBytes {
      let set = ctrace_set_pipe_size(end, Int32(clamping: wanted))
      if set > 0 { return set }
      wanted /= 2
    }
    return ctrace_pipe_size(end)
  }

  /// Empties the pipe, so that what a failed request left in it is not taken for another's.
  @inline(never)
  private mutating func drain() {
    withUnsafeTemporaryAllocation(byteCount: 1 << 14, alignment: 16) { memory in
      while true {
        let count = Glibc.read(readEnd, memory.baseAddress, memory.count)
        if count > 0 || (count < 0 && errno == EINTR) { continue }
        return
      }
    }
  }

  // MARK: Requests

  @inline(__always)
  public mutating func queue(_ operation: IOOperation, slot: Int32) -> QueueStatus {
    switch operation.kind {
    case .read: .completed(read(operation))
    case .write: .completed(write(operation))
    default: .completed(SyncEngine.perform(operation))
    }
  }

  @inline(__always)
  private mutating func read(_ operation: IOOperation) -> Int64 {
    guard let buffer = operation.buffer else { return operation.lengthBytes == 0 ? 0 : -Int64(EFAULT) }
    var offset = operation.offsetBytes
    var done = 0
    var retries = 0
    while done < operation.lengthBytes {
      let moved = calls.fileToPipe(operation.fileDescriptor, &offset, writeEnd, min(operation.lengthBytes - done, capacityBytes))
      if moved > 0 {
        let delivered = deliver(Int(moved), to: buffer + done)
        if delivered > 0 { done += Int(delivered) }
        if delivered != moved { return failed(delivered < 0 ? delivered : -Int64(EIO), done) }
        retries = 0
      } else if moved == 0 {
        break
      } else if !Self.mayRetry(moved, &retries) {
        return failed(moved, done)
      }
    }
    return Int64(done)
  }

  @inline(__always)
  private mutating func write(_ operation: IOOperation) -> Int64 {
    guard let buffer = operation.buffer else { return operation.lengthBytes == 0 ? 0 : -Int64(EFAULT) }
    var offset = operation.offsetBytes
    var done = 0
    var retries = 0
    while done < operation.lengthBytes {
      let given = calls.memoryToPipe(buffer + done, writeEnd, min(operation.lengthBytes - done, capacityBytes))
      if given > 0 {
        let stored = store(Int(given), operation.fileDescriptor, &offset)
        if stored > 0 { done += Int(stored) }
        if stored != given { return failed(stored < 0 ? stored : -Int64(EIO), done) }
        retries = 0
      } else if !Self.mayRetry(given == 0 ? -Int64(ENODATA) : given, &retries) {
        return failed(given == 0 ? -Int64(ENODATA) : given, done)
      }
    }
    if operation.flags != 0, done > 0 { return synchronise(operation, done) }
    return Int64(done)
  }

  /// A piece of a request failed: bytes that went through before it make it a short one.
  @inline(never)
  private mutating func failed(_ answer: Int64, _ done: Int) -> Int64 {
    drain()
    return done > 0 ? Int64(done) : answer
  }

  /// splice(2) takes no RWF_SYNC and RWF_DSYNC: the file is synchronised after the write.
  @inline(never)
  private func synchronise(_ operation: IOOperation, _ done: Int) -> Int64 {
    var rest = operation
    rest.kind = operation.flags & 4 != 0 ? .fsync : .fdatasync
    let result = SyncEngine.perform(rest)
    return result < 0 ? result : Int64(done)
  }

  /// Whether an answer is worth another call: an interrupted one always, one that says "not now" a limited number of times.
  @inline(never)
  private static func mayRetry(_ answer: Int64, _ retries: inout Int) -> Bool {
    let code = Int32(truncatingIfNeeded: -answer)
    if code == EINTR { return true }
    guard code == EAGAIN || code == ENODATA, retries < maximumRetries else { return false }
    retries += 1
    sched_yield()
    return true
  }

  // MARK: Between pipe and file, pipe and memory

  /// Moves `count` bytes from the pipe to the file: the bytes that went through; the negative errno when none did.
  @inline(__always)
  private mutating func store(_ count: Int, _ file: Int32, _ offset: inout Int64) -> Int64 {
    var done = 0
    var retries = 0
    while done < count {
      let moved = calls.pipeToFile(readEnd, file, &offset, count - done)
      if moved > 0 {
        done += Int(moved)
        retries = 0
      } else {
        let answer = moved == 0 ? -Int64(ENODATA) : moved
        if !Self.mayRetry(answer, &retries) { return done > 0 ? Int64(done) : answer }
      }
    }
    return Int64(done)
  }

  /// Moves `count` bytes from the pipe to memory: the bytes that went through; the negative errno when none did.
  @inline(__always)
  private mutating func deliver(_ count: Int, to memory: UnsafeMutableRawPointer) -> Int64 {
    var done = 0
    var retries = 0
    while done < count {
      let moved =
        delivery == .ownBuffer
        ? calls.pipeToMemory(readEnd, memory + done, count - done) : deliverOtherwise(memory + done, count - done)
      if moved > 0 {
        done += Int(moved)
        retries = 0
      } else {
        // The pipe holds the bytes: none of them moved is an error, and no end of the file.
        let answer = moved == 0 ? -Int64(ENODATA) : moved
        if fallsBack(answer) { continue }
        if !Self.mayRetry(answer, &retries) { return done > 0 ? Int64(done) : answer }
      }
    }
    return Int64(done)
  }

  @inline(never)
  private mutating func deliverOtherwise(_ memory: UnsafeMutableRawPointer, _ count: Int) -> Int64 {
    guard delivery == .freshMapping else { return calls.readPipe(readEnd, memory, count) }
    guard let mapping = ctrace_map_unwritable(count) else { return -Int64(EFAULT) }
    defer { munmap(mapping, count) }
    let moved = calls.pipeToMemory(readEnd, mapping, count)
    if moved > 0 { memcpy(memory, mapping, Int(moved)) }
    return moved
  }

  /// Takes the next way to memory, for good, when the answer says that this one is not there.
  @inline(never)
  private mutating func fallsBack(_ answer: Int64) -> Bool {
    switch (Int32(truncatingIfNeeded: -answer), delivery) {
    case (EFAULT, .freshMapping): delivery = .ownBuffer
    case (EBADF, .freshMapping), (EBADF, .ownBuffer): delivery = .read
    default: return false
    }
    return true
  }
}
