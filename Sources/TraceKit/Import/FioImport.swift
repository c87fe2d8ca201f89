/// What a `wait` line of a fio iolog of version 2 means: fio's code and its manual disagree.
public enum FioWait: String, CaseIterable, Sendable {
  /// As fio's code has it: milliseconds since the start of the log.
  case millisecondsSinceStart = "milliseconds-since-start"
  /// As fio's manual has it: microseconds since the previous line.
  case microsecondsSincePrevious = "microseconds-since-previous"
}

extension ImportFormat {
  /// fio's iolog, versions 2 and 3, as `fio --write_iolog` writes it (fio's iolog.c and HOWTO).
  static let fio = ImportFormat(
    name: "fio", summary: "fio iolog, versions 2 and 3", recognizes: { head, _ in FioHeader.version(of: head) != nil },
    open: { input, context throws(TraceError) in FioReader(input, context) })
}

/// The first line of an iolog; an appended file has several.
enum FioHeader {
  static func version(of head: [UInt8]) -> Int? {
    head.withUnsafeBufferPointer { bytes in
      var length = 0
      while length < bytes.count, bytes[length] != 0x0A, bytes[length] != 0x0D { length += 1 }
      return version(of: UnsafeBufferPointer(rebasing: bytes[0..<length]))
    }
  }

  /// The version that `fio version N iolog` names, or nil for another line.
  static func version(of line: UnsafeBufferPointer<UInt8>) -> Int? {
    var words = LineWords(line)
    guard words.next()?.spells("fio") == true, words.next()?.spells("version") == true, let number = words.next()?.decimal,
      words.next()?.spells("iolog") == true, words.next() == nil
    else { return nil }
    return number == 2 || number == 3 ? Int(number) : nil
  }
}

private final class FioReader: ImportReader {
  /// fio reads lines with a buffer of 4,096 bytes, and names with a width of 256.
  private static let lineLimit = 4095
  private static let nameLimit = 256
  private static let batchEvents = 4096

  private let lines: LineReader
  private let context: ImportContext
  private let name: String
  private var version = 0
  /// Nanoseconds of the current line of version 2.
  private var clock: Int64 = 0
  private var lastName: [UInt8] = []
  private var lastFile: UInt32 = 0
  private var added: Set<UInt32> = []

  init(_ input: ReadableFile, _ context: ImportContext) {
    lines = LineReader(input, limitBytes: Self.lineLimit)
    self.context = context
    name = input.path
  }

  func read(into events: inout [TraceEvent]) throws(TraceError) -> Bool {
    events.removeAll(keepingCapacity: true)
    while events.count < Self.batchEvents, let line = try lines.next() {
      if lines.wasTooLong {
        reject("longer than \(Self.lineLimit) bytes")
      } else if let event = version == 3 ? timedLine(line) : line.isEmpty ? nil : untimedLine(line) {
        events.append(event)
      }
    }
    return !events.isEmpty
  }

  private func reject(_ reason: String) { context.reject(name, lines.number, reason) }

  // MARK: Lines

  /// Version 3: `time name action [offset length]`, the time in microseconds since the start.
  private func timedLine(_ line: UnsafeBufferPointer<UInt8>) -> TraceEvent? {
    var words = LineWords(line)
    guard let first = words.next() else { return nil }
    guard let time = first.decimal, time <= UInt64(Int64.max / 1000) else {
      if !isHeader(line) { reject("it does not begin with a time in microseconds") }
      return nil
    }
    guard let file = words.next(), let action = words.next() else { return rejected("a file name and an action are missing") }
    if action.spells("wait") { return rejected("'wait' is not allowed in version 3") }
    return act(action, on: file, at: Int64(time) * 1000, &words)
  }

  /// Version 2: `name action [offset length]`, time passes with `wait`.
  private func untimedLine(_ line: UnsafeBufferPointer<UInt8>) -> TraceEvent? {
    if isHeader(line) { return nil }
    guard version == 2 else { return rejected("before the line 'fio version N iolog'") }
    var words = LineWords(line)
    guard let file = words.next() else { return nil }
    guard let action = words.next() else { return rejected("an action is missing") }
    if action.spells("wait") { return wait(&words) }
    return act(action, on: file, at: clock, &words)
  }

  private func rejected(_ reason: String) -> TraceEvent? {
    reject(reason)
    return nil
  }

  private func isHeader(_ line: UnsafeBufferPointer<UInt8>) -> Bool {
    guard let found = FioHeader.version(of: line) else { return false }
    if version != 0 { context.drop("repeated_header") }
    version = found
    if found == 3 {
      context.assume("fio iolog version 3: time in µs since the start of the log, offsets and lengths in bytes")
    } else {
      let unit = context.options.fioWait.rawValue
      context.assume("fio iolog version 2: offsets and lengths in bytes, 'wait' in \(unit) (--fio-wait)")
    }
    return true
  }

  private func wait(_ words: inout LineWords) -> TraceEvent? {
    guard let delay = words.next()?.decimal, delay <= UInt64(Int64.max / 2_000_000) else {
      return rejected("'wait' without a time in range")
    }
    switch context.options.fioWait {
    case .millisecondsSinceStart: clock = max(clock, Int64(delay) * 1_000_000)
    case .microsecondsSincePrevious:
      let (sum, overflow) = clock.addingReportingOverflow(Int64(delay) * 1000)
      if overflow { return rejected("the waits add up to more than 292 years") }
      clock = sum
    }
    return nil
  }

  private func act(
    _ action: Slice<UnsafeBufferPointer<UInt8>>, on file: Slice<UnsafeBufferPointer<UInt8>>, at start: Int64, _ words: inout LineWords
  ) -> TraceEvent? {
    guard file.count <= Self.nameLimit else { return rejected("a file name longer than \(Self.nameLimit) bytes") }
    let offset = words.next()
    let length = words.next()
    if words.next() != nil { return rejected("more words than an iolog's line has") }
    if action.spells("read") { return transfer(.read, file, start, offset, length) }
    if action.spells("write") { return transfer(.write, file, start, offset, length) }
    if action.spells("trim") { return transfer(.discard, file, start, offset, length) }
    // Offset and length of these mean nothing; some writers leave them out.
    if action.spells("sync") { return TraceEvent(startNanoseconds: start, operation: .fsync, file: id(of: file)) }
    if action.spells("datasync") { return TraceEvent(startNanoseconds: start, operation: .fdatasync, file: id(of: file)) }
    guard offset == nil else { return rejected("an unknown action, or one that takes no numbers") }
    if action.spells("add") {
      // The first one becomes the file's row in the table.
      if !added.insert(id(of: file)).inserted { context.drop("repeated_add") }
      return nil
    }
    if action.spells("open") { return TraceEvent(startNanoseconds: start, operation: .open, file: id(of: file)) }
    if action.spells("close") { return TraceEvent(startNanoseconds: start, operation: .close, file: id(of: file)) }
    return rejected("an unknown action")
  }

  private func transfer(
    _ operation: TraceOperation, _ file: Slice<UnsafeBufferPointer<UInt8>>, _ start: Int64, _ offset: Slice<UnsafeBufferPointer<UInt8>>?,
    _ length: Slice<UnsafeBufferPointer<UInt8>>?
  ) -> TraceEvent? {
    guard let offset = offset?.decimal, let length = length?.decimal else { return rejected("offset or length is missing or no number") }
    guard offset <= UInt64(Int64.max), length <= UInt64(UInt32.max) else { return rejected("offset or length is out of range") }
    return TraceEvent(startNanoseconds: start, operation: operation, file: id(of: file), offsetBytes: offset, sizeBytes: length)
  }

  /// The file's id; lines mostly name the same file as the one before.
  private func id(of file: Slice<UnsafeBufferPointer<UInt8>>) -> UInt32 {
    if !lastName.isEmpty, file.equals(lastName) { return lastFile }
    lastName = Array(file)
    lastFile = context.file(lastName)
    return lastFile
  }
}
