import Testing

@testable import TraceKit

/// Whose fault lateness is.
@Suite struct DependencyClockTests {
  private func request(at start: Int64, latency: Int64, stream: UInt32 = 0) throws -> ReplayRequest {
    var request = try #require(
      ReplayRequest(
        startNanoseconds: start, offsetBytes: 0, lengthBytes: 4096, movedBytes: 4096, latencyNanoseconds: latency, file: 0, flags: [],
        kind: .read, callFlags: 0))
    request.stream = stream
    return request
  }

  /// When a perfect replayer submits each request, given how long each took.
  private func undelayed(_ requests: [ReplayRequest], _ services: [Int64]) -> [Int64] {
    var clock = DependencyClock(isEnabled: true)
    return zip(requests, services).map { request, service in
      withUnsafePointer(to: request) {
        let start = max($0.pointee.startNanoseconds, clock.ready($0))
        clock.finish($0, undelayedEnd: start + service)
        return start
      }
    }
  }

  @Test func slowRequestsHoldUpThoseBehindThemUntilAPause() throws {
    let requests = try [0, 10_000, 20_000, 100_000].map { try request(at: $0, latency: 6_400) }
    #expect(undelayed(requests, [30_000, 30_000, 30_000, 30_000]) == [0, 30_000, 60_000, 100_000])
  }

  @Test func whatWasFastAsRecordedHoldsNothingUp() throws {
    let requests = try [0, 10_000, 20_000].map { try request(at: $0, latency: 6_400) }
    #expect(undelayed(requests, [6_400, 6_400, 6_400]) == [0, 10_000, 20_000])
  }

  @Test func otherThreadsAndOverlappingRequestsHoldNothingUp() throws {
    let others = try [request(at: 0, latency: 6_400, stream: 0), request(at: 10_000, latency: 6_400, stream: 100)]
    #expect(undelayed(others, [50_000, 50_000]) == [0, 10_000])
    // The first had not ended when the second began.
    let overlapping = try [request(at: 0, latency: 64_000), request(at: 10_000, latency: 6_400)]
    #expect(undelayed(overlapping, [200_000, 6_400]) == [0, 10_000])
  }

  @Test func whatTheReplayerLosesIsNotExplained() throws {
    // Each request is submitted 2 µs later than it could have been, again and again: the loss adds up to more than a budget.
    var tally = WorkerTally(isTimed: true, lagBudget: 10_000, fileRows: 1, expectedRequests: 100)
    defer { tally.deallocate() }
    var clock = DependencyClock(isEnabled: true)
    var now: Int64 = 0
    for i in 0..<100 {
      let one = try request(at: Int64(i) * 1_000, latency: 960)
      withUnsafePointer(to: one) { pointer in
        let undelayed = max(pointer.pointee.startNanoseconds, clock.ready(pointer))
        let submitted = max(now, pointer.pointee.startNanoseconds) + 2_000
        now = submitted + 1_000
        clock.finish(pointer, undelayedEnd: undelayed + 1_000)
        tally.record(
          pointer, number: UInt64(i), ordinal: UInt64(i), due: pointer.pointee.startNanoseconds, undelayed: undelayed, submitted: submitted,
          completed: now, result: 4096)
      }
    }
    #expect(tally.lateRequests > 90 && tally.lateByDependency == 0)
  }
}
