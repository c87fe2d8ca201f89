import ArgumentParser
import TraceKit

/// How text on standard output looks; shared by the commands that print reports or comparisons.
struct TextStyle: ParsableArguments {
  @Option(help: "Colours on standard output: auto (on a terminal, unless NO_COLOR is set), always or never.")
  var color = TerminalStyle.ColorChoice.auto
  @Option(help: "Bytes in iec units (KiB) or si units (kB); without it, sizes are in iec and rates in si units.") var units: ByteUnits?
  @Flag(inversion: .prefixedNo, help: "Bars, lines and maps made of characters.") var plots = true

  var style: TerminalStyle {
    var style = TerminalStyle.standardOutput(color: color, units: UnitChoice(units))
    style.showsPlots = plots
    return style
  }
}

/// Where a report goes beside standard output: the options of `report` and `run`.
struct ReportOutputs: ParsableArguments {
  @Option(help: ArgumentHelp("Write the report as one HTML file, to be read in a browser without a network.", valueName: "file"))
  var html: String?
  @Option(help: ArgumentHelp("Write the latencies as an HdrHistogram log (V2), a line for each latency and operation.", valueName: "file"))
  var hlog: String?
  @Option(help: ArgumentHelp("Write every figure as a line of CSV.", valueName: "file")) var csv: String?
  @Option(help: ArgumentHelp("Write a short report in Markdown, for a pull request.", valueName: "file")) var markdown: String?
  @Option(help: ArgumentHelp("Write a textfile for Prometheus' node exporter.", valueName: "file")) var prometheus: String?
  @OptionGroup var text: TextStyle

  /// Files that will be written, and standard output as `-`, with `json` of the command among them.
  func documents(json: String?) -> ReportDocuments {
    ReportDocuments(
      json: json, html: html, hlog: hlog, csv: csv, markdown: markdown, prometheus: prometheus)
  }
}

/// Where a comparison goes beside standard output: the options of `diff`.
struct DiffOutputs: ParsableArguments {
  @Option(help: ArgumentHelp("Write the comparison as one HTML file, to be read in a browser without a network.", valueName: "file"))
  var html: String?
  @Option(help: ArgumentHelp("Write the comparison in Markdown, for a pull request.", valueName: "file")) var markdown: String?
  @OptionGroup var text: TextStyle

  /// Files that will be written, and standard output as `-`, with `json` of the command among them.
  func documents(json: String?) -> ReportDocuments { ReportDocuments(json: json, html: html, markdown: markdown) }
}

extension TerminalStyle.ColorChoice: ExpressibleByArgument {}
extension ByteUnits: ExpressibleByArgument {}
