import CTrace
import Testing

@testable import TraceKit

@Suite struct RecordedFilesTests {
  /// A table with a file opened as `number`, or named only.
  private func define(_ number: UInt32, _ path: String, isOpen: Bool = true, in files: inout RecordedFiles) {
    let text = Array(path.utf8)
    let fixed = trace_definition(
      description: number, path_bytes: UInt32(text.count), device: 1, represented_device: 0, inode: UInt64(number), birth_ns: 1, size: 5,
      open_flags: isOpen ? 0 : UInt32.max, kind: 1, filesystem_type: 0)
    let bytes = withUnsafeBytes(of: fixed) { Array($0) } + text
    bytes.withUnsafeBytes { files.define($0) }
  }

  @Test func aRecordingOfDaysKeepsOpenFilesAndGivesUpClosedOnes() {
    var files = RecordedFiles(filter: PathFilter(), anonymizer: nil)
    define(1, "/open-from-the-start", in: &files)
    var next: UInt32 = 2
    var largest = 0
    for _ in 0..<8 {
      for _ in 0..<12_000 {
        define(next, "/file-\(next)", in: &files)
        _ = files.resolve(next) { _ in 0 }
        files.close(next)
        define(next + 1, "/name-\(next)", isOpen: false, in: &files)
        next += 2
      }
      files.forgetRows()
      largest = max(largest, files.count)
    }
    #expect(largest < 120_000)
    var path: [UInt8] = []
    let reference = files.resolve(1) { file in
      path = file.path
      return 7
    }
    #expect(reference == .row(7) && path == Array("/open-from-the-start".utf8))
    // The newest are still known, closed as they are; old ones are not.
    #expect(files.resolve(next - 2) { _ in 8 } == .row(8))
    #expect(files.resolve(2) { _ in 9 } == .unknown)
    #expect(files.named == 96_001)
  }

  @Test func numbersAreKeptWhileTheyAreOpen() {
    var numbers = FileNumbers()
    for number in 1...100_000 {
      numbers.set(number, entry: UInt32(number), isOpen: true)
      if number % 1000 != 0 { numbers.close(number) }
    }
    numbers.renumber { $0 % 5000 == 0 ? 0 : $0 + 1 }
    #expect(numbers.entry(of: 1000) == 1001 && numbers.entry(of: 5000) == 0 && numbers.entry(of: 999) == 0)
    #expect(numbers.entry(of: 99_999) == 100_000)
    numbers.close(1000)
    #expect(numbers.entry(of: 1000) == 0)
    numbers.set(1000, entry: 3, isOpen: true)
    #expect(numbers.entry(of: 1000) == 3 && numbers.entry(of: 300_000) == 0)
    #expect(numbers.count < 66_000)
    var open = 0
    numbers.forEachOpen { _ in open += 1 }
    #expect(open == 80)
  }
}
