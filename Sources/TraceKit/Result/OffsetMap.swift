/// How often each part of the files is read and written over recorded time: a coarse picture of fixed size. Files lie one after
/// another. A column's width and a row's height double (neighbours are added up) when requests lie beyond the edge.
struct OffsetMap: ~Copyable {
  static let columns = 120
  static let rows = 64

  /// log2 of the nanoseconds of a column.
  private(set) var columnShift: UInt64
  /// log2 of the bytes of a row.
  private(set) var rowShift: UInt64
  /// Where each file begins.
  private let bases: UnsafeMutablePointer<UInt64>
  private let fileCount: Int
  /// Counts by column, then row.
  private let reads: UnsafeMutablePointer<UInt64>
  private let writes: UnsafeMutablePointer<UInt64>
  private(set) var isEmpty = true

  private static let cells = columns * rows

  /// - Parameters:
  ///   - fileSizesBytes: end of the furthest byte that is touched, by file; 0 where it is not known.
  ///   - durationNanoseconds: recorded time from the first to the last request, when it is known.
  init(fileSizesBytes: [UInt64], durationNanoseconds: Int64? = nil) {
    fileCount = fileSizesBytes.count
    bases = .allocate(capacity: max(1, fileCount))
    var base: UInt64 = 0
    for (file, size) in fileSizesBytes.enumerated() {
      bases[file] = base
      let (sum, overflow) = base.addingReportingOverflow(size)
      base = overflow ? .max : sum
    }
    columnShift = Self.shift(UInt64(max(0, durationNanoseconds ?? 0)), Self.columns, atLeast: 10)
    rowShift = Self.shift(base, Self.rows, atLeast: 9)
    reads = .allocate(capacity: Self.cells)
    reads.initialize(repeating: 0, count: Self.cells)
    writes = .allocate(capacity: Self.cells)
    writes.initialize(repeating: 0, count: Self.cells)
  }

  deinit {
    bases.deallocate()
    reads.deallocate()
    writes.deallocate()
  }

  /// The smallest power of two that covers `extent` with `parts` of its size.
  private static func shift(_ extent: UInt64, _ parts: Int, atLeast: UInt64) -> UInt64 {
    var shift = atLeast
    while shift < 63, extent >> shift >= UInt64(parts) { shift += 1 }
    return shift
  }

  /// Counts a request in each row that it touches.
  /// - Parameter startNanoseconds: recorded time after the first request; earlier counts as 0.
  @inline(__always)
  mutating func add(file: UInt32, offsetBytes: UInt64, lengthBytes: UInt64, isWrite: Bool, startNanoseconds: Int64) {
    let base = Int(file) < fileCount ? bases[Int(file)] : 0
    let first = base &+ offsetBytes
    let last = first &+ (lengthBytes == 0 ? 0 : lengthBytes &- 1)
    guard first >= base, last >= first else { return }
    let time = UInt64(max(0, startNanoseconds))
    while time >> columnShift >= UInt64(Self.columns) { widenColumns() }
    while last >> rowShift >= UInt64(Self.rows) { widenRows() }
    let column = (isWrite ? writes : reads) + Int(time >> columnShift) * Self.rows
    for row in Int(first >> rowShift)...Int(last >> rowShift) { column[row] &+= 1 }
    isEmpty = false
  }

  /// Adds the counts of another map of the same files.
  mutating func merge(_ other: borrowing OffsetMap) {
    while columnShift < other.columnShift { widenColumns() }
    while rowShift < other.rowShift { widenRows() }
    for column in 0..<Self.columns {
      for row in 0..<Self.rows {
        let own = (column >> Int(columnShift - other.columnShift)) * Self.rows + row >> Int(rowShift - other.rowShift)
        let theirs = column * Self.rows + row
        reads[own] &+= other.reads[theirs]
        writes[own] &+= other.writes[theirs]
      }
    }
    isEmpty = isEmpty && other.isEmpty
  }

  @inline(never)
  private mutating func widenColumns() {
    for cells in [reads, writes] {
      for column in 0..<Self.columns {
        for row in 0..<Self.rows {
          let (a, b) = (2 * column * Self.rows + row, (2 * column + 1) * Self.rows + row)
          cells[column * Self.rows + row] = (a < Self.cells ? cells[a] : 0) &+ (b < Self.cells ? cells[b] : 0)
        }
      }
    }
    columnShift += 1
  }

  @inline(never)
  private mutating func widenRows() {
    for cells in [reads, writes] {
      for column in 0..<Self.columns {
        let rows = cells + column * Self.rows
        for row in 0..<Self.rows / 2 { rows[row] = rows[2 * row] &+ rows[2 * row + 1] }
        (rows + Self.rows / 2).update(repeating: 0, count: Self.rows / 2)
      }
    }
    rowShift += 1
  }

  /// A cell that has requests.
  struct Cell: Equatable {
    var column: Int
    var row: Int
    var count: UInt64
  }

  /// The filled cells of the reads or of the writes, by column, then row.
  func cells(writes isWrite: Bool) -> [Cell] {
    let counts = isWrite ? writes : reads
    return (0..<Self.cells).filter { counts[$0] > 0 }.map {
      Cell(column: $0 / Self.rows, row: $0 % Self.rows, count: counts[$0])
    }
  }
}
