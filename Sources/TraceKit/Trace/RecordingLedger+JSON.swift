extension RecordingLedger {
  /// The same with stable keys: times in nanoseconds, null for what is not known.
  public var json: JSONNode {
    let counts: [(String, JSONNode)] = [
      ("routes", .array(routes.map { Self.node($0) })), ("losses", .array(losses.map { Self.node($0) })),
      ("gaps", .array(gaps.map { Self.node($0) })), ("coverage", .array(coverage.map { Self.node($0) })),
      ("blind_spots", .array(blindSpots.map { Self.node($0) })),
    ]
    let rest: [(String, JSONNode)] = [
      ("sampling", sampling.map { Self.node($0) } ?? .null), ("excluded_events", .unsigned(excludedEvents)),
      ("start_ns", .integer(startNanoseconds)), ("end_ns", .integer(endNanoseconds)),
      ("recorder_cpu_ns", .unsigned(recorderCPUNanoseconds)), ("share_of_one_cpu", .number(shareOfOneCPU)),
    ]
    return .object(counts + rest)
  }

  private static func node(_ route: Route) -> JSONNode {
    let operations = route.operations.map { count -> JSONNode in
      .object([
        ("operation", .text(count.operation)), ("events", .unsigned(count.events)), ("errors", .unsigned(count.errors)),
        ("bytes", .unsigned(count.bytes)),
      ])
    }
    return .object([
      ("name", .text(route.name)), ("events", .unsigned(route.events)),
      ("cost_per_event_ns", .number(route.costPerEventNanoseconds)), ("operations", .array(operations)),
    ])
  }

  private static func node(_ loss: Loss) -> JSONNode {
    .object([("cause", .text(loss.cause)), ("gaps", .unsigned(loss.gaps)), ("events", .unsigned(loss.events))])
  }

  private static func node(_ gap: Gap) -> JSONNode {
    let fields: [(String, JSONNode)] = [
      ("start_ns", .integer(gap.startNanoseconds)), ("duration_ns", .integer(gap.durationNanoseconds)),
      ("events", .unsigned(gap.events)), ("cause", .text(gap.cause)), ("pid", .integer(gap.processID.map { Int64($0) })),
      ("tid", .integer(gap.threadID.map { Int64($0) })),
    ]
    return .object(fields)
  }

  private static func node(_ entry: Coverage) -> JSONNode {
    let fields: [(String, JSONNode)] = [
      ("source", .text(entry.source)), ("counter", .text(entry.counter)), ("unit", .text(entry.unit)),
      ("recorded", .unsigned(entry.recorded)), ("kernel", .unsigned(entry.kernel)), ("share", .number(entry.share)),
      ("explanation", .text(entry.explanation)),
    ]
    return .object(fields)
  }

  private static func node(_ spot: BlindSpot) -> JSONNode {
    .object([("name", .text(spot.name)), ("count", .unsigned(spot.count)), ("remedy", .text(spot.remedy))])
  }

  private static func node(_ sampling: Sampling) -> JSONNode {
    let fields: [(String, JSONNode)] = [
      ("unit", .text(sampling.unit)), ("one_in", .unsigned(sampling.oneIn)), ("recorded", .unsigned(sampling.recorded)),
      ("met", .unsigned(sampling.met)), ("events_left_out", .unsigned(sampling.eventsLeftOut)),
    ]
    return .object(fields)
  }
}
