import CTrace
import Foundation
import Testing

@testable import TraceKit

@Suite struct NetAddressTests {
  @Test func everyFormOfAnAddressIsReadAndWrittenAgain() throws {
    for text in [
      "tcp://127.0.0.1:5000", "tcp://[::1]:5000", "tcp://example.org:1", "udp://[fe80::1]:9", "unix:/tmp/a b", "nbd://localhost:10809/",
      "nbd://[::1]:1234/disk", "nbd+unix:///?socket=/tmp/s", "nbd+unix:///a?socket=/tmp/s",
    ] {
      #expect(NetAddress.isAddress(text))
      #expect(try NetAddress(text).text == text)
    }
    #expect(try NetAddress("nbd://host/a%2Fb").export == "a/b")
    #expect(try NetAddress("nbd://host").export == "")
    #expect(try NetAddress("unix:///tmp/s").transport == .unix(path: "/tmp/s"))
    #expect(!NetAddress.isAddress("/tmp/file"))
    #expect(!NetAddress.isAddress("tcp"))
  }

  @Test func everythingElseIsRefusedWithTheRightForm() {
    for text in [
      "tcp://host", "tcp://:5000", "tcp://host:", "tcp://host:65536", "tcp://host:-1", "tcp://[::1:5000", "tcp://a:b:5", "tcp://a b:1",
      "unix:relative", "unix:/\(String(repeating: "x", count: 200))", "nbd+unix:///e", "nbd+unix://host/e?socket=/s", "nbd://host/%zz",
      "nbd://host/%00", "nbds://host/", "udp://h:1x",
    ] {
      #expect(throws: TraceError.self, "\(text)") { try NetAddress(text) }
    }
  }

  @Test func prefixesHoldTheirAddresses() throws {
    let private8 = try #require(AddressPrefix("10.0.0.0/8"))
    #expect(private8.contains([10, 1, 2, 3]))
    #expect(!private8.contains([11, 1, 2, 3]))
    #expect(private8.contains([UInt8](repeating: 0, count: 10) + [0xFF, 0xFF, 10, 1, 2, 3]))
    #expect(try #require(AddressPrefix("10.0.0.128/25")).contains([10, 0, 0, 200]))
    #expect(!(try #require(AddressPrefix("10.0.0.128/25")).contains([10, 0, 0, 100])))
    #expect(try #require(AddressPrefix("::/0")).contains([UInt8](repeating: 9, count: 16)))
    #expect(!(try #require(AddressPrefix("::1")).contains([127, 0, 0, 1])))
    for text in ["10.0.0.0/33", "10.0.0", "host", "::1/129", "10.0.0.0/", "/8", ""] { #expect(AddressPrefix(text) == nil, "\(text)") }
  }

  @Test func aStreamMessageIsRecognisedAndNothingElseIs() {
    let message = StreamMessage(kind: .trailer, dataBytes: 1 << 40, digest: 0xDEAD_BEEF, hasDigest: true)
    let bytes = message.encoded
    #expect(bytes.withUnsafeBytes { StreamMessage($0.baseAddress!) } == message)
    for i in 0..<36 {
      var changed = bytes
      changed[i] ^= 0x40
      #expect(changed.withUnsafeBytes { StreamMessage($0.baseAddress!) } == nil, "byte \(i)")
    }
  }
}

@Suite struct NetPeerTests {
  let folder = Folder()

  private func options(_ target: String, _ change: (inout ReplayOptions) -> Void = { _ in }) -> ReplayOptions {
    var options = ReplayOptions()
    options.engine = EngineRegistry.engineName(forTarget: target)
    options.speed = .maximum
    options.order = .depth
    options.targets.target = target
    options.engineOptions.network.timeoutNanoseconds = 1_000_000_000
    change(&options)
    return options
  }

  private func trace(_ operation: TraceOperation, count: Int = 1000, size: UInt64 = 5000) throws -> String {
    try makeTrace(
      folder("trace-\(operation.name)"), files: [regular("/a")],
      events: (0..<count).map { access(operation, 0, UInt64($0) * size, size, at: Int64($0)) })
  }

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return ""
    } catch { return "\(error)" }
  }

  @Test func aMixedTraceIsRefusedBeforeTheFirstByte() throws {
    let trace = try makeTrace(
      folder("t"), files: [regular("/a")], events: [access(.write, 0, 0, 100, at: 1), access(.read, 0, 0, 100, at: 2)])
    let text = message { _ = try Replayer(tracePath: trace, options: options("unix:\(folder("nobody"))")).run() }
    #expect(text.contains("--only") && text.contains("--duplex"), "\(text)")
    let plan = try Replayer(tracePath: trace, options: options("unix:\(folder("nobody"))") { $0.only = .write }).dryRun().text
    #expect(plan.contains("1 requests, sent\n"), "\(plan)")
  }

  @Test func badCombinationsEachGetTheirSentence() throws {
    let trace = try trace(.write)
    func text(_ target: String, _ change: (inout ReplayOptions) -> Void = { _ in }) -> String {
      message { _ = try Replayer(tracePath: trace, options: options(target, change)) }
    }
    #expect(text("udp://127.0.0.1:1") { $0.engineOptions.network.splices = true }.contains("which cannot be spliced"))
    #expect(
      text("tcp://127.0.0.1:1") {
        $0.engine = "sync"
        $0.engineOptions = EngineOptions()
      }.contains("--engine net"))
    #expect(text("tcp://127.0.0.1:1") { $0.engine = "nbd" }.contains("--engine net"))
    #expect(text("nbd://127.0.0.1/") { $0.engine = "net" }.contains("--engine nbd"))
    #expect(text("/tmp") { $0.engine = "net" }.contains("tcp://host:port"))
    #expect(text("/tmp") { $0.engine = "nbd" }.contains("nbd://"))
    #expect(text("nbd://127.0.0.1/") { $0.engineOptions.network.isDuplex = true }.contains("--duplex"))
    #expect(
      text("tcp://127.0.0.1:1") {
        $0.engineOptions.network.splices = true
        $0.engineOptions.eventLoop = .ioUring
      }.contains("--splice with --event-loop"))
  }

  @Test func optionsOfFilesAreRefusedByName() throws {
    let trace = try trace(.write)
    func text(_ target: String, _ change: (inout ReplayOptions) -> Void) -> String {
      message { _ = try Replayer(tracePath: trace, options: options(target, change)) }
    }
    for (flag, onlyStreams, change) in [
      ("--map", false, { $0.targets.map = [TargetRule("/a", "/tmp/b")] }), ("--verify", false, { $0.verifies = true }),
      ("--direct", false, { $0.cacheUse = .direct }), ("--buffered", false, { $0.cacheUse = .buffered }),
      ("--cold", false, { $0.targets.cold = true }), ("--drop-caches", false, { $0.targets.dropsSystemCaches = true }),
      ("--scratch", false, { $0.targets.scratch = "/tmp" }), ("--keep-scratch", false, { $0.targets.keepScratch = true }),
      ("--offset", true, { $0.targets.offsetBytes = 512 }), ("--wrap", true, { $0.targets.wrap = .scale }),
      ("--sync", true, { $0.synchronousWrites = true }),
    ] as [(String, Bool, (inout ReplayOptions) -> Void)] {
      for target in ["tcp://127.0.0.1:1", "udp://127.0.0.1:1", "unix:/s", "nbd://127.0.0.1/"] {
        let said = text(target, change)
        #expect(said.isEmpty == (onlyStreams && target.hasPrefix("nbd")), "\(target) \(flag): \(said)")
        if !said.isEmpty { #expect(said.hasPrefix("\(flag):"), "\(target): \(said)") }
      }
    }
  }

  @Test func peersThatAreNotThereAreNamed() throws {
    let trace = try trace(.write)
    let missing = message { _ = try Replayer(tracePath: trace, options: options("unix:\(folder("nobody"))")).run() }
    #expect(missing.contains("cannot connect") && missing.contains("the peer makes it"), "\(missing)")
    let refused = message { _ = try Replayer(tracePath: trace, options: options("tcp://127.0.0.1:1")).run() }
    #expect(refused.contains("nobody listens there"), "\(refused)")
    let datagrams = message { _ = try Replayer(tracePath: trace, options: options("udp://127.0.0.1:1")).run() }
    #expect(datagrams.contains("udp://127.0.0.1:1"), "\(datagrams)")
    let name = message { _ = try Replayer(tracePath: trace, options: options("tcp://no-such-host.invalid:1")).run() }
    #expect(name.contains("the host's address is not known"), "\(name)")
    // TEST-NET-1 (RFC 5737): nobody answers, or the network says that it is not reachable.
    let far = message {
      _ = try Replayer(
        tracePath: trace, options: options("tcp://192.0.2.1:9") { $0.engineOptions.network.timeoutNanoseconds = 300_000_000 }
      )
      .run()
    }
    #expect(far.contains("tcp://192.0.2.1:9: cannot connect"), "\(far)")
    let nobody = message {
      _ = try Replayer(
        tracePath: trace,
        options: options("unix:\(folder("waiting"))") {
          $0.engineOptions.network.listens = true
          $0.engineOptions.network.timeoutNanoseconds = 100_000_000
        }
      ).run()
    }
    #expect(nobody.contains("nobody connected"), "\(nobody)")
  }

  @Test(arguments: [EventLoopChoice.epoll, .automatic, .ioUring], [false, true])
  func anyProgramMayReceive(loop: EventLoopChoice, splices: Bool) throws {
    if splices, loop == .ioUring { return }
    let trace = try trace(.write)
    let received = Box<[UInt8]>([])
    let peer = try ScriptedPeer(folder("s")) { received.value = receive($0, 5_000_001) }
    let report = try Replayer(
      tracePath: trace,
      options: options(peer.target) {
        $0.engineOptions.eventLoop = loop
        $0.engineOptions.network.splices = splices
      }
    ).run()
    #expect(report.run.failure == nil, "\(report.run.failure ?? "")")
    #expect(report.run.requests == 1000)
    #expect(report.run.bytesWritten == 5_000_000)
    #expect(report.options["net-comparison-sent"] == "the peer gave none")
    // The replay ends when all is sent; the peer may still be reading.
    for _ in 0..<6000 where received.value.isEmpty { usleep(10_000) }
    #expect(received.value.count == 5_000_000)
    let digest = received.value.withUnsafeBytes { ctrace_digest_piece($0.baseAddress, $0.count, 0) }
    #expect(report.options["net-digest-sent"] == Hexadecimal.text(digest))
    let targetKinds = report.targets.map(\.kind)
    #expect(targetKinds == ["unix"])
  }

  @Test(arguments: [EventLoopChoice.epoll, .automatic, .ioUring], [false, true])
  func anyProgramMaySend(loop: EventLoopChoice, splices: Bool) throws {
    if splices, loop == .ioUring { return }
    let trace = try trace(.read)
    let data = (0..<5_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 9) }
    let peer = try ScriptedPeer(folder("s")) { descriptor in
      // In odd pieces, so that requests are put together from several.
      var start = 0
      while start < data.count {
        let end = min(data.count, start + 77_777)
        transmit(descriptor, Array(data[start..<end]))
        start = end
      }
      shutdown(descriptor, CTRACE_SHUT_WR)
      receive(descriptor, 80)
    }
    let report = try Replayer(
      tracePath: trace,
      options: options(peer.target) {
        $0.engineOptions.eventLoop = loop
        $0.engineOptions.network.splices = splices
      }
    ).run()
    #expect(report.run.failure == nil, "\(report.run.failure ?? "")")
    #expect(report.run.bytesRead == 5_000_000)
    #expect(report.run.shortTransfers == 0)
    let digest = data.withUnsafeBytes { ctrace_digest_piece($0.baseAddress, $0.count, 0) }
    #expect(report.options["net-digest-received"] == Hexadecimal.text(digest))
  }

  @Test(arguments: [EventLoopChoice.epoll, .automatic, .ioUring])
  func aPeerThatClosesInTheMiddleEndsTheRunWithAPartialReport(loop: EventLoopChoice) throws {
    for (operation, splices) in [(TraceOperation.read, false), (.write, false), (.read, true), (.write, true)] {
      if splices, loop == .ioUring { continue }
      let trace = try trace(operation, count: 20_000)
      let peer = try ScriptedPeer(folder("s-\(operation.name)-\(loop.rawValue)-\(splices)")) { descriptor in
        if operation == .read { transmit(descriptor, [UInt8](repeating: 1, count: 123_456)) } else { receive(descriptor, 123_456) }
      }
      let report = try Replayer(
        tracePath: trace,
        options: options(peer.target) {
          $0.engineOptions.eventLoop = loop
          $0.engineOptions.network.splices = splices
        }
      ).run()
      #expect(report.run.partial)
      #expect(report.run.failure?.contains(peer.target) == true, "\(report.run.failure ?? "")")
      #expect(report.run.requests < 20_000)
      #expect(report.run.errors <= 1)
    }
  }

  @Test(arguments: [EventLoopChoice.epoll, .automatic, .ioUring])
  func aSilentPeerEndsTheRunWithAPartialReport(loop: EventLoopChoice) throws {
    for operation in [TraceOperation.read, .write] {
      let trace = try trace(operation, count: 20_000)
      let isOver = Box(false)
      let peer = try ScriptedPeer(folder("s-\(operation.name)-\(loop.rawValue)")) { _ in while !isOver.value { usleep(10_000) } }
      let report = try Replayer(
        tracePath: trace,
        options: options(peer.target) {
          $0.engineOptions.eventLoop = loop
          $0.engineOptions.network.timeoutNanoseconds = 300_000_000
        }
      ).run()
      isOver.value = true
      #expect(report.run.partial)
      #expect(report.run.failure?.contains("--timeout") == true, "\(report.run.failure ?? "")")
      #expect(report.errors.map(\.errno) == [ETIMEDOUT])
    }
  }

  /// Memory that is written to again at once after each send: had its pages gone to the kernel, the peer would receive what was
  /// written later.
  @Test func memoryThatIsWrittenToAgainIsCopiedAndNotSpliced() throws {
    for address in ["tcp", "unix"] {
      var pair: [Int32] = [-1, -1]
      if address == "unix" {
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
      } else {
        let listener = try SocketSetup.listen(NetAddress("tcp://127.0.0.1:0"), backlog: 1)
        let port = SocketAddress.local(listener).port
        pair[0] = try SocketSetup.connect(NetAddress("tcp://127.0.0.1:\(port)"), timeoutNanoseconds: 1_000_000_000)
        pair[1] = try #require(try SocketSetup.accept(listener, until: ctrace_monotonic_ns() + 1_000_000_000)).descriptor
        close(listener)
      }
      let received = Box<UInt64>(0)
      let done = Box(false)
      let other = pair[1]
      ctrace_set_blocking(other)
      let total = 64 << 20
      Thread.detachNewThread {
        let digest = ctrace_digest_new()
        // Late, so that the sender runs far ahead of what is read.
        usleep(100_000)
        var left = total
        while left > 0 {
          let bytes = receive(other, min(left, 100_000))
          if bytes.isEmpty { break }
          ctrace_digest_add(digest, bytes, bytes.count)
          left -= bytes.count
        }
        received.value = ctrace_digest_value(digest!)
        ctrace_digest_free(digest)
        done.value = true
      }
      var engine = EngineOptions()
      engine.network.splices = true
      engine.network.timeoutNanoseconds = 10_000_000_000
      var stream = try NetStream(pair[0], address: try NetAddress("unix:/test"), options: engine)
      let memory = UnsafeMutableRawPointer.allocate(byteCount: 65_536, alignment: 64)
      defer { memory.deallocate() }
      for i in 0..<total / 65_536 {
        memset(memory, Int32(i & 0xFF), 65_536)
        #expect(stream.send(memory, 65_536, more: false) == 65_536)
      }
      while !done.value { usleep(1000) }
      #expect(stream.digestValue == received.value, "\(address)")
      close(pair[0])
      close(pair[1])
    }
  }
}

@Suite struct NBDProtocolTests {
  let folder = Folder()

  private func run(
    _ peer: ScriptedPeer, _ operation: TraceOperation = .read, count: Int = 64, _ change: (inout ReplayOptions) -> Void = { _ in }
  )
    throws -> ReplayReport
  {
    let trace = try makeTrace(
      folder("trace"), files: [regular("/a")],
      events: (0..<count).map { access(operation, 0, UInt64($0 % 128) * 4096, 4096, at: Int64($0)) })
    var options = ReplayOptions()
    options.engine = "nbd"
    options.speed = .maximum
    options.order = .depth
    options.targets.target = peer.nbdTarget
    options.targets.allowWrites = operation != .read
    options.engineOptions.iodepth = 8
    change(&options)
    return try Replayer(tracePath: trace, options: options).run()
  }

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return ""
    } catch { return "\(error)" }
  }

  /// Greetings and option replies that are wrong, and a word of the sentence that follows.
  @Test(arguments: [
    ([UInt8](repeating: 0x41, count: 200), "is no NBD server"),
    (wire(NBDProtocol.initialMagic, UInt64(0x0042_0281_861D_F3EA), UInt16(3)), "old style"),
    (wire(NBDProtocol.initialMagic, NBDProtocol.optionMagic, UInt16(0)), "fixed newstyle"),
    (wire(NBDProtocol.initialMagic, NBDProtocol.optionMagic, UInt16(3), UInt64(7), UInt64(7), UInt32(7)), "no reply to option"),
    (
      wire(NBDProtocol.initialMagic, NBDProtocol.optionMagic, UInt16(3), NBDProtocol.optionReplyMagic, UInt32(8), UInt32(1), UInt32.max),
      "4294967295 bytes"
    ),
    ([], "closed the connection"),
  ])
  func aServerThatNegotiatesWronglyIsRefused(bytes: [UInt8], word: String) throws {
    let peer = try ScriptedPeer(folder("s")) { descriptor in
      transmit(descriptor, bytes)
      if !bytes.isEmpty { receive(descriptor, 100_000) }
    }
    let text = message { _ = try run(peer) }
    #expect(text.contains(word), "\(text)")
  }

  /// What a server answers to the first read, and a word of the sentence that follows.
  @Test(arguments: ["magic", "handle", "twice", "length", "place", "type", "hole", "short", "error", "simple", "early", "close", "silence"])
  func aServerThatBreaksTheProtocolEndsTheRun(_ kind: String) throws {
    let peer = try ScriptedPeer(folder("s")) { descriptor in
      negotiateAsServer(descriptor, structured: true)
      guard let request = nextRequest(descriptor) else { return }
      let magic = NBDProtocol.structuredReplyMagic
      let data = [UInt8](repeating: 7, count: 4096)
      switch kind {
      case "magic": transmit(descriptor, wire(UInt32(0x1234_5678), UInt32(0), request.handle) + data)
      case "handle": transmit(descriptor, wire(magic, UInt16(1), UInt16(0), request.handle ^ 0xFFFF, UInt32(0)))
      case "twice":
        let reply = wire(magic, UInt16(1), UInt16(1), request.handle, UInt32(4104), request.offset) + data
        transmit(descriptor, reply + reply)
      case "length": transmit(descriptor, wire(magic, UInt16(1), UInt16(1), request.handle, UInt32.max, request.offset) + data)
      case "place": transmit(descriptor, wire(magic, UInt16(1), UInt16(1), request.handle, UInt32(4104), request.offset + 1) + data)
      case "type": transmit(descriptor, wire(magic, UInt16(1), UInt16(99), request.handle, UInt32(0)))
      case "hole": transmit(descriptor, wire(magic, UInt16(1), UInt16(2), request.handle, UInt32(12), request.offset, UInt32.max))
      case "short": transmit(descriptor, wire(magic, UInt16(1), UInt16(1), request.handle, UInt32(108), request.offset) + data.prefix(100))
      case "error": transmit(descriptor, wire(magic, UInt16(1), UInt16(0x8001), request.handle, UInt32(1 << 30), UInt32(5), UInt16(9)))
      case "simple": transmit(descriptor, wire(NBDProtocol.simpleReplyMagic, UInt32(0), request.handle) + data)
      case "early":
        // A reply to a slot that no request is in.
        transmit(descriptor, wire(magic, UInt16(1), UInt16(0), UInt64(1) << 32 | 4000, UInt32(0)))
      case "close": return
      default: usleep(1_500_000)
      }
      receive(descriptor, 1_000_000)
    }
    let report = try run(peer) { if kind == "silence" { $0.engineOptions.network.timeoutNanoseconds = 300_000_000 } }
    #expect(report.run.partial)
    let word = kind == "close" ? "closed the connection" : kind == "silence" ? "--timeout" : "broke the protocol"
    #expect(report.run.failure?.contains(word) == true, "\(kind): \(report.run.failure ?? "nothing")")
    // What was in flight has ended, as errors.
    #expect(report.run.requests >= report.run.errors && report.run.errors > 0)
  }

  @Test func repliesInAnyOrderAndInChunksArePutTogether() throws {
    let peer = try ScriptedPeer(folder("s")) { descriptor in
      negotiateAsServer(descriptor, structured: true)
      var waiting: [(command: UInt16, handle: UInt64, offset: UInt64, length: UInt32)] = []
      while let request = nextRequest(descriptor) {
        if request.command == NBDProtocol.Command.disconnect.rawValue { return }
        waiting.append(request)
        guard waiting.count == 8 else { continue }
        let magic = NBDProtocol.structuredReplyMagic
        for one in waiting.reversed() {
          // The second half first, as data; then the first half as a hole; then the end. Every eighth fails.
          if one.offset == 0 {
            transmit(descriptor, wire(magic, UInt16(1), UInt16(0x8001), one.handle, UInt32(9), UInt32(5), UInt16(3)) + Array("bad".utf8))
            continue
          }
          let half = [UInt8](repeating: 3, count: 2048)
          transmit(descriptor, wire(magic, UInt16(0), UInt16(1), one.handle, UInt32(2056), one.offset + 2048) + half)
          transmit(descriptor, wire(magic, UInt16(0), UInt16(2), one.handle, UInt32(12), one.offset, UInt32(2048)))
          transmit(descriptor, wire(magic, UInt16(1), UInt16(0), one.handle, UInt32(0)))
        }
        waiting = []
      }
    }
    let report = try run(peer, count: 128)
    #expect(report.run.failure == nil, "\(report.run.failure ?? "")")
    #expect(report.run.requests == 128)
    #expect(report.run.errors == 1)
    #expect(report.errors.map(\.errno) == [EIO])
    #expect(report.run.bytesRead == 127 * 4096)
  }

  @Test func anExportIsNotWrittenWithoutPermission() throws {
    let peer = try ScriptedPeer(folder("s"), connections: 2) { negotiateAsServer($0, structured: false, flags: 0x3) }
    let refused = message { _ = try run(peer, .write) { $0.targets.allowWrites = false } }
    #expect(refused.contains("--allow-writes") && refused.contains("256.0 KiB"), "\(refused)")
    let readOnly = message { _ = try run(peer, .write) }
    #expect(readOnly.contains("read-only"), "\(readOnly)")
  }

  @Test func theEngineItselfRefusesWritesToAReadOnlyExport() throws {
    var pair: [Int32] = [-1, -1]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
    defer { pair.forEach { close($0) } }
    var configuration = EngineConfiguration(iodepth: 4, slots: 4)
    var connection = NetConnection(address: try NetAddress("nbd://host/"))
    connection.output = pair[0]
    connection.export = NBDExport(sizeBytes: 1 << 20, flags: 0x2D)
    configuration.connection = connection
    var engine = try NBDEngine(configuration)
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 512, alignment: 64)
    defer { memory.deallocate() }
    for kind in [IOOperation.Kind.write, .discard] {
      let operation = IOOperation(
        kind: kind, isBlockDevice: false, fileDescriptor: -1, flags: 0, buffer: memory, offsetBytes: 0, lengthBytes: 512)
      #expect(engine.queue(operation, slot: 0) == .completed(-Int64(EROFS)))
    }
    engine.commit()
    var byte: UInt8 = 0
    #expect(recv(pair[1], &byte, 1, CTRACE_MSG_DONTWAIT) < 0)
  }
}

/// A value that a test's threads share.
final class Box<Value>: @unchecked Sendable {
  private let lock = NSLock()
  private var stored: Value
  init(_ value: Value) { stored = value }
  var value: Value {
    get { lock.withLock { stored } }
    set { lock.withLock { stored = newValue } }
  }
}
