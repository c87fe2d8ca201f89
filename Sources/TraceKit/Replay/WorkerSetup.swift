/// What a worker thread is started with.
struct WorkerSetup: @unchecked Sendable {
  let queue: RequestQueue
  let control: ReplayControl
  let result: WorkerResult
  /// Most requests that it takes from the queue at once.
  let claimLimit: Int
  let iodepth: Int
  /// What workers must wait for of each other's requests, where the order asks for it and the engine does one at a time.
  let dependencies: SharedDependencies?
  let log: ReplayLog.Channel?
  /// The CPU that it is pinned to, or nil.
  let cpu: Int?
  /// The worker's own connection to a peer.
  let connection: NetConnection?
}
