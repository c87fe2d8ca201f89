import Foundation
import Testing
import TraceKit

/// A recorded trace, read whole.
struct RecordedTrace {
  let events: [TraceEvent]
  let files: [TraceFile]
  let totals: TraceTotals?
  let metadata: TraceMetadata

  init(_ path: String) throws {
    let reader = try TraceReader(path: path)
    let batch = EventBatch(capacity: 4096)
    var all: [TraceEvent] = []
    while try reader.next(into: batch) { all += (0..<batch.count).map { batch.events[$0] } }
    #expect(reader.damages.isEmpty)
    events = all
    files = reader.files
    totals = reader.totals
    metadata = reader.metadata
  }

  func path(_ event: TraceEvent) -> String { event.fileIfKnown.map { files[Int($0)].displayPath } ?? "" }

  /// The events of one operation on files whose path ends so, in order.
  func events(_ operation: TraceOperation, _ suffix: String = "") -> [TraceEvent] {
    events.filter { $0.operation == operation && path($0).hasSuffix(suffix) }
  }

  var gaps: [TraceEvent] { events.filter { $0.operation == .gap } }
}

/// A command under `trace-record run`, without the measurement of cost that each test would wait for.
@discardableResult
func record(
  _ command: [String], to output: String, options: [String] = [], in folder: String? = nil, environment: [String: String] = [:],
  input: String? = nil, timeoutSeconds: Double = 120
) throws -> CommandResult {
  try run(
    traceRecord, ["run", "--no-calibration", "-o", output] + options + ["--"] + command, in: folder, environment: environment,
    input: input, timeoutSeconds: timeoutSeconds)
}

/// A read or write as strace(1) and the recorder both see it.
struct ObservedTransfer: Hashable, CustomStringConvertible {
  var isWrite: Bool
  var path: String
  /// Nil for a failed vectored call, whose buffers are not looked at.
  var sizeBytes: UInt64?
  var result: Int64
  /// Offset that the call named.
  var offset: UInt64?
  /// Recorded of stdio: one or several system calls in a row, which together moved `result` bytes.
  var isBuffered = false

  var description: String {
    "\(isWrite ? "write" : "read") \(path) size \(sizeBytes.map(String.init) ?? "?") offset \(offset.map(String.init) ?? "-") = \(result)"
  }
}

/// The log of `strace -f`: names and results of finished calls by thread, in order; a failed call's result is −errno.
struct CallLog {
  private(set) var calls: [Int32: [(name: String, result: Int64)]] = [:]

  init(_ path: String) throws {
    let text = String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: " ", maxSplits: 1)
      guard parts.count == 2, let thread = Int32(parts[0]) else { continue }
      var call = parts[1].drop { $0 == " " }
      guard let equals = call.range(of: " = ", options: .backwards) else { continue }
      if call.hasPrefix("<... ") { call = call.dropFirst(5) }
      let name = String(call.prefix { $0.isLetter || $0.isNumber || $0 == "_" })
      guard let result = Int64(call[equals.upperBound...].prefix { $0 != " " }) else { continue }
      let failure = call[equals.upperBound...].split(separator: " ")
      let code = result < 0 && failure.count > 1 ? -Int64(StraceLog.errorNumber(String(failure[1]))) : result
      calls[thread, default: []].append((name, code))
    }
  }
}

/// The log of `strace -f -y -s 0 -e trace=read,…`: transfers by thread, in order.
struct StraceLog {
  static let calls = "read,write,pread64,pwrite64,readv,writev,preadv,pwritev,preadv2,pwritev2"
  private(set) var transfers: [Int32: [ObservedTransfer]] = [:]

  init(_ path: String) throws {
    let text = String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
    var unfinished: [Int32: String] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: " ", maxSplits: 1)
      guard parts.count == 2, let thread = Int32(parts[0]) else { continue }
      var call = String(parts[1].drop { $0 == " " })
      if call.hasSuffix(" <unfinished ...>") {
        unfinished[thread] = String(call.dropLast(" <unfinished ...>".count))
        continue
      }
      if call.hasPrefix("<... "), let end = call.range(of: "resumed>") {
        call = (unfinished.removeValue(forKey: thread) ?? "") + call[end.upperBound...]
      }
      if let transfer = Self.transfer(call) { transfers[thread, default: []].append(transfer) }
    }
  }

  /// `pread64(3</data>, ""..., 512, 4096) = 512`
  private static func transfer(_ call: String) -> ObservedTransfer? {
    guard let open = call.firstIndex(of: "("), let close = call.range(of: #"\) +="#, options: .regularExpression) else { return nil }
    let name = call[..<open]
    let outcome = call[close.upperBound...].split(separator: " ")
    guard let first = outcome.first, let value = Int64(first) else { return nil }
    let result = value >= 0 ? value : -Int64(errorNumber(outcome.count > 1 ? String(outcome[1]) : ""))
    let body = call[call.index(after: open)..<close.lowerBound]
    guard let pathStart = body.firstIndex(of: "<"), let pathEnd = body.range(of: ">") else {
      return ObservedTransfer(isWrite: name.contains("write"), path: "", sizeBytes: lastNumber(body), result: result)
    }
    let path = String(body[body.index(after: pathStart)..<pathEnd.lowerBound])
    let rest = body[pathEnd.upperBound...]
    let fields = rest.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
    var transfer = ObservedTransfer(isWrite: name.contains("write"), path: path, sizeBytes: nil, result: result)
    if name.hasSuffix("v") || name.hasSuffix("v2") {
      let lengths = rest.components(separatedBy: "iov_len=").dropFirst().compactMap { UInt64($0.prefix { $0.isNumber }) }
      transfer.sizeBytes = result < 0 ? nil : lengths.reduce(0, +)
      if name.hasPrefix("p") { transfer.offset = fields.dropLast(name.hasSuffix("2") ? 1 : 0).last.flatMap { UInt64($0) } }
    } else if name.hasPrefix("p") {
      transfer.offset = fields.last.flatMap { UInt64($0) }
      transfer.sizeBytes = fields.dropLast().last.flatMap { UInt64($0) }
    } else {
      transfer.sizeBytes = fields.last.flatMap { UInt64($0) }
    }
    return transfer
  }

  private static func lastNumber(_ body: Substring) -> UInt64? {
    body.split(separator: ",").last.flatMap { UInt64($0.trimmingCharacters(in: .whitespaces)) }
  }

  static func errorNumber(_ name: String) -> Int32 {
    [
      "ECONNREFUSED": ECONNREFUSED, "ENOTCONN": ENOTCONN, "EAGAIN": EAGAIN, "EBADF": EBADF, "EINTR": EINTR, "EISDIR": EISDIR,
      "EINVAL": EINVAL, "EPIPE": EPIPE, "EIO": EIO,
    ][name] ?? 0
  }
}

extension RecordedTrace {
  /// Reads and writes by thread, in the order of their starts.
  var transfers: [Int32: [ObservedTransfer]] {
    var all: [Int32: [ObservedTransfer]] = [:]
    for event in events where event.operation == .read || event.operation == .write {
      all[event.threadID, default: []].append(
        ObservedTransfer(
          isWrite: event.operation == .write, path: path(event), sizeBytes: event.sizeIfKnown, result: event.result,
          offset: event.flags.contains(.sequentialCall) ? nil : event.offsetIfKnown, isBuffered: event.flags.contains(.buffered)))
    }
    return all
  }
}
