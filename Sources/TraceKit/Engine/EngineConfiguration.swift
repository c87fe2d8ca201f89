/// Which way descriptors' readiness, timers and completions are waited for.
public enum EventLoopChoice: String, CaseIterable, Sendable {
  /// io_uring where the kernel has it, else epoll.
  case automatic = "auto"
  case epoll
  case ioUring = "io_uring"
}

/// Settings of engines that a user chooses; what an engine has no use for it refuses.
public struct EngineOptions: Sendable {
  /// Requests in flight per worker; nil for the engine's own default (`defaultIodepth`, 1 where requests complete one at a time).
  public var iodepth: Int?
  public static let defaultIodepth = 128
  public static let maximumIodepth = 4096
  /// A kernel thread polls the submission queue (IORING_SETUP_SQPOLL).
  public var submissionPolling = false
  /// Completions are polled for (IORING_SETUP_IOPOLL); O_DIRECT only.
  public var completionPolling = false
  /// Buffers are registered with the ring (IORING_REGISTER_BUFFERS); memory is pinned.
  public var fixedBuffers = false
  public var eventLoop = EventLoopChoice.automatic
  /// Capacity of the splice engine's pipe; nil for as large as the largest request, within the system's limit.
  public var pipeBytes: Int?
  /// A libaio context without requests is released after this long.
  public var idleReleaseNanoseconds: Int64 = 30_000_000_000
  /// How peers of sockets are met.
  public var network = NetworkOptions()
  public init() {}
}

/// What an engine is made with: the settings, and everything that can be registered before the clock starts.
public struct EngineConfiguration: @unchecked Sendable {
  public var options: EngineOptions
  /// Most operations in flight.
  public var iodepth: Int
  /// Slots are below this number, which is at least `iodepth`.
  public var slots: Int
  /// Descriptors of the targets; `IOOperation.fileIndex` points here. −1 for none.
  public var descriptors: [Int32]
  /// Memory that reads go to, `IOOperation.buffer` of reads lies in it where it fits.
  public var readArena: UnsafeMutableRawBufferPointer
  /// Memory that writes come from.
  public var writeArena: UnsafeRawBufferPointer
  /// Longest read or write in bytes.
  public var largestRequestBytes: Int
  /// The worker's own connection, for engines whose targets are peers.
  public var connection: NetConnection?

  public init(
    options: EngineOptions = EngineOptions(), iodepth: Int, slots: Int, descriptors: [Int32] = [],
    readArena: UnsafeMutableRawBufferPointer = UnsafeMutableRawBufferPointer(start: nil, count: 0),
    writeArena: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0), largestRequestBytes: Int = 0
  ) {
    self.options = options
    self.iodepth = iodepth
    self.slots = slots
    self.descriptors = descriptors
    self.readArena = readArena
    self.writeArena = writeArena
    self.largestRequestBytes = largestRequestBytes
  }
}
