import Testing

@testable import TraceRecord
@testable import TraceReplay

@Test func bothCommandsCarryTheirNames() {
  #expect(TraceRecord.configuration.commandName == "trace-record")
  #expect(TraceReplay.configuration.commandName == "trace-replay")
}
