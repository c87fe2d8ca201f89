extension ReplayReport {
  /// The same report with nothing but printable characters in its texts: a report may come from anywhere, and what it says must not
  /// steer a terminal. Texts that are printable already stay as they are.
  var printable: ReplayReport {
    func shown(_ text: String) -> String { PrintableText.visible(text) }
    var report = self
    report.schema = Schema(name: shown(schema.name), version: shown(schema.version))
    report.tool = shown(tool)
    report.trace.path = shown(trace.path)
    report.trace.digest = trace.digest.map(shown)
    report.run.engine = shown(run.engine)
    report.run.speed = shown(run.speed)
    report.run.order = shown(run.order)
    report.run.late = shown(run.late)
    report.run.filter = shown(run.filter)
    for i in operations.indices { report.operations[i].operation = shown(operations[i].operation) }
    for i in files.indices { report.files[i].path = shown(files[i].path) }
    for i in errors.indices {
      report.errors[i].operation = shown(errors[i].operation)
      report.errors[i].message = shown(errors[i].message)
    }
    report.fidelity.reasons = fidelity.reasons.map(shown)
    for i in fidelity.notReplayed.indices { report.fidelity.notReplayed[i].reason = shown(fidelity.notReplayed[i].reason) }
    report.targets = targets.map { Target(path: shown($0.path), kind: shown($0.kind), filesystem: $0.filesystem.map(shown)) }
    report.notes = notes.map(shown)
    report.options = Dictionary(options.map { (shown($0.key), shown($0.value)) }) { first, _ in first }
    for i in (worstRequests ?? []).indices {
      report.worstRequests?[i].operation = shown(worstRequests![i].operation)
      report.worstRequests?[i].file = shown(worstRequests![i].file)
    }
    for i in (verification?.findings ?? []).indices {
      report.verification?.findings[i].target = shown(verification!.findings[i].target)
      report.verification?.findings[i].message = shown(verification!.findings[i].message)
    }
    report.host.hostName = shown(host.hostName)
    report.host.kernel = shown(host.kernel)
    report.host.architecture = shown(host.architecture)
    report.host.cpuModel = host.cpuModel.map(shown)
    report.host.clockSource = host.clockSource.map(shown)
    for i in host.devices.indices {
      report.host.devices[i].name = shown(host.devices[i].name)
      report.host.devices[i].scheduler = host.devices[i].scheduler.map(shown)
    }
    return report
  }
}
