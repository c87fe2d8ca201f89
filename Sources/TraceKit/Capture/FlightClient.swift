import CTrace
import Glibc

/// Finds recorders that keep their events in memory, and makes one write.
public enum FlightClient {
  /// A running recorder of this user, or of anybody's for root.
  public struct Recorder: Sendable {
    public var processID: Int32
    /// Absolute path that it was given as output.
    public var output: String
  }

  /// All that can be reached, by process number.
  public static func recorders() -> [Recorder] {
    guard let table = SmallFile.text("/proc/net/unix", limitBytes: 16 << 20) else { return [] }
    var numbers: Set<Int32> = []
    for line in table.split(separator: "\n") {
      guard let name = line.split(separator: " ").last, name.hasPrefix("@\(FlightSocket.prefix)") else { continue }
      if let number = Int32(name.dropFirst(FlightSocket.prefix.count + 1)) { numbers.insert(number) }
    }
    return numbers.sorted().compactMap { number in
      guard let output = ask(number, "describe"), output.hasPrefix("/") else { return nil }
      return Recorder(processID: number, output: output)
    }
  }

  /// Makes a recorder write what it has.
  /// - Parameter target: its process number, its output, or nil when there is only one.
  /// - Returns: what it wrote, in a sentence.
  /// - Throws: when there is none such, or it could not write.
  public static func trigger(_ target: String?) throws(TraceError) -> String {
    let recorder = try choose(target, among: recorders())
    guard let answer = ask(recorder.processID, "trigger"), let first = answer.first else {
      throw TraceError(.refused, "the recorder \(recorder.processID) ended before it answered")
    }
    // The recorder's own user runs it, but what it says comes from outside all the same; paths in it are escaped already.
    let text = String(answer.dropFirst().unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }.map(Character.init))
    guard first == "+" else { throw TraceError(.refused, text) }
    return text
  }

  private static func choose(_ target: String?, among all: [Recorder]) throws(TraceError) -> Recorder {
    let known = all.map { "\($0.processID) (\(PrintableText.escaped($0.output)))" }.joined(separator: ", ")
    let hint = all.isEmpty ? "none runs; 'trace-record run --last 30s' starts one" : "these run: \(known)"
    guard let target else {
      if all.count == 1 { return all[0] }
      throw TraceError(.refused, all.isEmpty ? "no recorder with --last: \(hint)" : "which recorder? \(hint)")
    }
    let path = FlightSocket.absolute(target)
    let found = all.filter { recorder in
      if let number = Int32(target) { return recorder.processID == number }
      return recorder.output == path || same(recorder.output, path)
    }
    guard found.count == 1 else {
      throw TraceError(.refused, "\(PrintableText.escaped(target)): no recorder with --last; \(hint)")
    }
    return found[0]
  }

  /// Two spellings of one name: the same last part in the same folder.
  private static func same(_ a: String, _ b: String) -> Bool {
    guard let slashA = a.lastIndex(of: "/"), let slashB = b.lastIndex(of: "/"), a[slashA...] == b[slashB...] else { return false }
    var (one, other) = (stat(), stat())
    return stat(String(a[..<slashA]) + "/", &one) == 0 && stat(String(b[..<slashB]) + "/", &other) == 0 && one.st_dev == other.st_dev
      && one.st_ino == other.st_ino
  }

  private static func ask(_ process: Int32, _ question: String) -> String? {
    let connection = ctrace_connect_abstract("\(FlightSocket.prefix)\(process)")
    guard connection >= 0 else { return nil }
    defer { close(connection) }
    // Anybody can take a name; only this user's or root's process is believed.
    let user = ctrace_peer_user(connection)
    guard geteuid() == 0 || user == 0 || user == Int64(geteuid()) else { return nil }
    let bytes = Array(question.utf8)
    _ = bytes.withUnsafeBytes { ctrace_send(connection, $0.baseAddress!, $0.count) }
    shutdown(connection, Int32(SHUT_WR))
    let answer = FlightSocket.receive(connection, limitBytes: 1 << 16)
    return answer.isEmpty ? nil : answer
  }
}
