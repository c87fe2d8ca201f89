import CTrace
import Glibc

/// What the connections of a server have in common.
final class ServerShared: @unchecked Sendable {
  let options: ServeOptions
  let reads: Bool
  let writes: Bool
  /// Bytes that the trace reads and writes, all loops together.
  let sendBytes: UInt64
  let receiveBytes: UInt64
  let payload: Payload
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private var rows: [ServeReport.Connection] = []
  private var running = 0

  init(options: ServeOptions, reads: Bool, writes: Bool, sendBytes: UInt64, receiveBytes: UInt64, payload: Payload) {
    self.options = options
    self.reads = reads
    self.writes = writes
    self.sendBytes = sendBytes
    self.receiveBytes = receiveBytes
    self.payload = payload
    lock = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
  }

  deinit {
    pthread_mutex_destroy(lock)
    lock.deallocate()
  }

  private func locked<Value>(_ body: () -> Value) -> Value {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return body()
  }

  func begin() { locked { running += 1 } }
  func end() { locked { running -= 1 } }
  var active: Int { locked { running } }
  func add(_ row: ServeReport.Connection) { locked { rows.append(row) } }
  var results: [ServeReport.Connection] { locked { rows } }
}
