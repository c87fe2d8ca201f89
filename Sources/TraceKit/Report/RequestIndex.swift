/// Gives the numbers of a trace's requests places in flat arrays: by subtraction where the numbers lie close together, by search
/// where a filter left few of many. At most 8 bytes per request, whatever numbers a file claims.
struct RequestIndex: Sendable {
  private let first: UInt64
  /// Places.
  let count: Int
  /// Distinct numbers in order; nil when places follow from the number alone.
  private let numbers: [UInt64]?
  let lastNumber: UInt64
  /// How often each file of the trace was used, by its row in the file table.
  let requestsOfFile: [UInt32]

  /// Reads the trace once, twice when its numbers are sparse. Nil when it has no requests with latencies.
  init?(_ trace: MeasuredTrace) throws(TraceError) {
    var (low, high, requests) = (UInt64.max, UInt64.min, 0)
    let files = UnsafeMutableBufferPointer<UInt32>.allocate(capacity: trace.reader.files.count)
    files.initialize(repeating: 0)
    defer { files.deallocate() }
    try trace.forEach(.outcomes.with(.file, .fileDictionary)) { request, event in
      low = min(low, request.number)
      high = max(high, request.number)
      requests += 1
      let file = Int(event.pointee.file)
      if file < files.count { files[file] &+= 1 }
    }
    guard requests > 0 else { return nil }
    requestsOfFile = Array(files)
    first = low
    lastNumber = high
    if high - low < UInt64(requests) &* 4 {
      numbers = nil
      count = Int(high - low) + 1
      return
    }
    var all: [UInt64] = []
    all.reserveCapacity(requests)
    try trace.forEach { request, _ in all.append(request.number) }
    all.sort()
    var kept = 0
    for i in all.indices where i == 0 || all[i] != all[kept - 1] {
      all[kept] = all[i]
      kept += 1
    }
    all.removeLast(all.count - kept)
    count = kept
    numbers = all
  }

  /// The place of a number, or nil.
  @inline(__always)
  func place(_ number: UInt64) -> Int? {
    guard let numbers else { return number >= first && number <= lastNumber ? Int(number - first) : nil }
    var (low, high) = (0, numbers.count)
    while low < high {
      let middle = (low + high) / 2
      if numbers[middle] < number { low = middle + 1 } else { high = middle }
    }
    return low < numbers.count && numbers[low] == number ? low : nil
  }

  /// The requests of all places in `parts` equal parts: the part of a number.
  @inline(__always)
  func part(_ number: UInt64, of parts: Int) -> Int? { place(number).map { min(parts - 1, $0 * parts / count) } }

  /// The number of the first request of a part.
  func firstNumber(ofPart part: Int, of parts: Int) -> UInt64 {
    let place = (part * count + parts - 1) / parts
    return numbers.map { $0[min(place, count - 1)] } ?? first + UInt64(place)
  }
}
