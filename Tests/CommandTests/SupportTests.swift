import Testing

@Test func runGivesStatusAndBothOutputs() throws {
  let result = try run("sh", ["-c", "echo out; echo err >&2; exit 3"])
  #expect(result.status == 3 && result.stdout == "out\n" && result.stderr == "err\n")
  #expect(try run("sh", ["-c", "kill -TERM $$"]).signal == 15)
}
