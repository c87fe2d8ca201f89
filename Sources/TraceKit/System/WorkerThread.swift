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

  /// Runs both at once, the second on a thread of its own, and returns when both have ended.
  /// - Throws: the first's error, else the second's.
  static func both<First, Second>(
    _ first: () throws(TraceError) -> First, _ second: @escaping @Sendable () throws(TraceError) -> Second
  ) throws(TraceError) -> (First, Second) {
    let outcome = Outcome<Second>()
    let thread = try WorkerThread { outcome.result = Result { () throws(TraceError) in try second() } }
    let result = Result { () throws(TraceError) in try first() }
    thread.join()
    return (try result.get(), try outcome.result!.get())
  }
}

/// Written by a thread before it ends, read after it was joined.
private final class Outcome<Value>: @unchecked Sendable {
  var result: Result<Value, TraceError>?
}
