import Glibc

/// A pthread that runs one closure.
final class WorkerThread {
  private final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  private var handle = pthread_t()

  /// Starts the thread. - Throws: when the system has no room for another one.
  init(_ body: @escaping @Sendable () -> Void) throws(TraceError) {
    let box = Unmanaged.passRetained(Box(body))
    let code = pthread_create(
      &handle, nil,
      { argument in
        Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().body()
        return nil
      }, box.toOpaque())
    guard code == 0 else {
      box.release()
      throw TraceError(path: "worker thread", "start it", errno: code, hint: "fewer with --workers")
    }
  }

  func join() { pthread_join(handle, nil) }
}
