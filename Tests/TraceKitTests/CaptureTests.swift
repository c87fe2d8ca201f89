import CTrace
import Testing

@testable import TraceKit

@Test func sipHashGivesTheReferenceVectors() {
  // The first vectors of the reference implementation: key 00…0f, messages 00, 00 01, …
  let hash = SipHash(key0: 0x0706_0504_0302_0100, key1: 0x0f0e_0d0c_0b0a_0908)
  #expect(hash.hash([]) == 0x726f_db47_dd0e_0e31)
  #expect(hash.hash([0]) == 0x74f8_39c5_93dc_67fd)
  #expect(hash.hash((0..<15).map { UInt8($0) }) == 0xa129_ca61_49be_45e5)
}

@Test func anonymizedPathsKeepShapeAndExtension() {
  let anonymizer = PathAnonymizer(secret: Array(repeating: 7, count: 32))
  func hidden(_ path: String) -> String { String(decoding: anonymizer.anonymized(Array(path.utf8)), as: UTF8.self) }
  let one = hidden("/data/customers/smith.db")
  #expect(one.split(separator: "/").count == 3 && one.hasPrefix("/") && one.hasSuffix(".db"))
  #expect(!one.contains("data") && !one.contains("smith"))
  #expect(hidden("/data/customers/jones.db").hasPrefix(one.prefix(34)))
  #expect(hidden("/data/other").split(separator: "/")[0] == one.split(separator: "/")[0])
  #expect(!hidden("/.bashrc").contains("bashrc"))
  #expect(!hidden("/name.with a sentence behind it").contains("sentence"))
  #expect(!hidden("/folder.d/file").contains(".d"))
  #expect(hidden("pipe:[123]") == "pipe:[123]")
  #expect(hidden("tcp:192.0.2.7:5432").hasPrefix("tcp:") && hidden("tcp:192.0.2.7:5432").hasSuffix(":5432"))
  #expect(!hidden("tcp:192.0.2.7:5432").contains("192") && !hidden("udp-local:[2001:db8::7]:53").contains("db8"))
  #expect(!hidden("unix:@secret").contains("secret") && hidden("unix:/run/secret.sock").hasSuffix(".sock"))
  #expect(!hidden("unix:/run/secret.sock").contains("run"))
  #expect(PathAnonymizer().anonymized(Array("/a".utf8)) != PathAnonymizer().anonymized(Array("/a".utf8)))
}

@Test func globsIncludeThenExclude() {
  let filter = PathFilter(include: ["/data/*", "*.db"], exclude: ["*.tmp"])
  func keeps(_ path: String) -> Bool { filter.keeps(Array(path.utf8)) }
  #expect(keeps("/data/deep/below") && keeps("/else/x.db"))
  #expect(!keeps("/data/x.tmp") && !keeps("/etc/passwd"))
  #expect(PathFilter(exclude: ["/proc/*"]).keeps(Array("/data".utf8)))
}

@Test func programsAreFoundAsAShellFindsThem() throws {
  #expect(try ProgramCheck.resolve("sh", searchPath: "/nonexistent:/bin") == "/bin/sh")
  #expect(try ProgramCheck.resolve("/bin/sh", searchPath: "") == "/bin/sh")
  #expect(throws: ProgramRefusal.self) { try ProgramCheck.resolve("no-such-program", searchPath: "/bin") }
  #expect(throws: ProgramRefusal.self) { try ProgramCheck.resolve("", searchPath: "/bin") }
  try ProgramCheck.check("/bin/sh")
}

@Test func sharedConstantsAreThoseOfTheTraceFormat() {
  let operations: [(trace_record_operation, TraceOperation)] = [
    (TRACE_OP_READ, .read), (TRACE_OP_WRITE, .write), (TRACE_OP_FSYNC, .fsync), (TRACE_OP_FDATASYNC, .fdatasync),
    (TRACE_OP_SYNC_FILE_RANGE, .syncFileRange), (TRACE_OP_MSYNC, .msync), (TRACE_OP_TRUNCATE, .truncate),
    (TRACE_OP_ALLOCATE, .allocate), (TRACE_OP_DISCARD, .discard), (TRACE_OP_WRITE_ZEROES, .writeZeroes), (TRACE_OP_OPEN, .open),
    (TRACE_OP_CLOSE, .close), (TRACE_OP_DUPLICATE, .duplicate), (TRACE_OP_SEEK, .seek), (TRACE_OP_RENAME, .rename),
    (TRACE_OP_UNLINK, .unlink), (TRACE_OP_LINK, .link), (TRACE_OP_MAP, .map), (TRACE_OP_UNMAP, .unmap),
    (TRACE_OP_SEND, .send), (TRACE_OP_RECEIVE, .receive), (TRACE_OP_CONNECT, .connect), (TRACE_OP_ACCEPT, .accept),
    (TRACE_OP_COPY_RANGE, .copyRange), (TRACE_OP_SENDFILE, .sendfile), (TRACE_OP_SPLICE, .splice),
  ]
  for (shared, operation) in operations { #expect(shared.rawValue == UInt32(operation.rawValue)) }
  let flags: [(trace_record_flags, TraceEventFlags)] = [
    (TRACE_FLAG_DIRECT, .direct), (TRACE_FLAG_SYNC, .sync), (TRACE_FLAG_DATA_SYNC, .dataSync), (TRACE_FLAG_APPEND, .append),
    (TRACE_FLAG_INFERRED_OFFSET, .inferredOffset), (TRACE_FLAG_BUFFERED, .buffered), (TRACE_FLAG_SEQUENTIAL, .sequentialCall),
    (TRACE_FLAG_HIGH_PRIORITY, .highPriority),
    (TRACE_FLAG_NO_WAIT, .noWait), (TRACE_FLAG_REQUEST_DATA_SYNC, .requestDataSync), (TRACE_FLAG_REQUEST_SYNC, .requestSync),
    (TRACE_FLAG_VECTORED, .vectored), (TRACE_FLAG_CREATE, .create), (TRACE_FLAG_TRUNCATING, .truncating),
    (TRACE_FLAG_OPEN_READ, .openRead), (TRACE_FLAG_OPEN_WRITE, .openWrite), (TRACE_FLAG_SHARED_MAPPING, .sharedMapping),
    (TRACE_FLAG_WRITABLE_MAPPING, .writableMapping),
  ]
  for (shared, flag) in flags { #expect(shared.rawValue == flag.rawValue) }
  let kinds: [(trace_file_kind, TraceFile.Kind)] = [
    (TRACE_KIND_REGULAR, .regular), (TRACE_KIND_BLOCK, .blockDevice), (TRACE_KIND_CHARACTER, .characterDevice),
    (TRACE_KIND_DIRECTORY, .directory), (TRACE_KIND_PIPE, .pipe), (TRACE_KIND_SOCKET, .socket), (TRACE_KIND_LINK, .symbolicLink),
    (TRACE_KIND_ANONYMOUS, .anonymous),
  ]
  for (shared, kind) in kinds { #expect(shared.rawValue == UInt32(kind.rawValue)) }
}

@Test func oneFileOpenedOftenIsOneRowAndAReusedInodeAnother() {
  var files = RecordedFiles(filter: PathFilter(exclude: ["*/hidden"]), anonymizer: nil)
  func define(_ number: UInt32, _ path: String, inode: UInt64, birth: Int64) {
    let text = Array(path.utf8)
    let fixed = trace_definition(
      description: number, path_bytes: UInt32(text.count), device: 1, represented_device: 0, inode: inode, birth_ns: birth, size: 5,
      open_flags: 0, kind: 1, filesystem_type: 0)
    let bytes = withUnsafeBytes(of: fixed) { Array($0) } + text
    bytes.withUnsafeBytes { files.define($0) }
  }
  define(1, "/a", inode: 10, birth: 100)
  define(2, "/a", inode: 10, birth: 100)
  define(3, "/a", inode: 10, birth: 200)
  define(4, "/a/hidden", inode: 11, birth: 1)
  var rows: [TraceFile] = []
  func resolve(_ number: UInt32) -> RecordedFiles.Reference {
    files.resolve(number) { file in
      rows.append(file)
      return UInt32(rows.count - 1)
    }
  }
  #expect(resolve(2) == .row(0) && resolve(1) == .row(0) && resolve(3) == .row(1))
  #expect(resolve(4) == .excluded && resolve(0) == .unknown && resolve(99) == .unknown)
  #expect(rows.map(\.birthTimeNanoseconds) == [100, 200])
}
