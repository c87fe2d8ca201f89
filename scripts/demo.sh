#!/bin/sh
# Records a small backup (tar, gzip and dd under one shell), shows what is in the trace, replays it at its own speed and as fast as
# it goes, compares two replays, and replays it through every engine: over a loopback connection through net.
#
#   scripts/demo.sh BUILD_FOLDER
#
# The trace, the reports (JSON and text) and the comparison stay in ./demo-output, or in $DEMO_OUTPUT; an existing folder
# is never written to: the next one gets a number. Works without root and removes its temporary files.
set -eu

# Headings, and the command that makes what follows, as somebody would type it.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
heading() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }
show() { printf '%s$ %s%s\n' "$bold" "$1" "$plain"; }

free_folder() {
  folder=$1
  number=2
  while [ -e "$folder" ] || [ -L "$folder" ]; do
    folder=$1-$number
    number=$((number + 1))
  done
  printf '%s\n' "$folder"
}

work=$(mktemp -d "${TMPDIR:-/tmp}/backup.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Up to 64 MiB of the compiler's and the C library's files, large ones first: every machine that could build this has them.
choose_files() {
  find /usr/lib/gcc /usr/include /usr/share/perl* -type f -readable -printf '%s %p\n' 2>/dev/null |
    sort -k 1,1nr -k 2 | awk '{ if (bytes + $1 <= 67108864 && files < 200) { bytes += $1; files++; sub(/^[0-9]+ /, ""); print } }' >"$work/files"
}

write_program() {
  cat >"$work/backup.sh" <<'END'
set -e
tar -cf archive.tar -T files 2>tar.log                        # collect
gzip -1 -k archive.tar                                        # compress
dd if=archive.tar.gz of=copy.tar.gz bs=16k conv=fsync 2>dd.log # copy, and make it durable
gzip -t copy.tar.gz                                           # verify
mkdir restored && tar -xf archive.tar -C restored             # restore
END
}

# run_replay NAME TITLE OPTION...: one replay; its text goes to the screen and to NAME.txt, its JSON to NAME.json.
run_replay() {
  name=$1
  heading "$2"
  shift 2
  show "trace-replay run backup.iotrace $* --json $name.json"
  # No pipe into tee here: the exit status of a replay matters.
  trace-replay run backup.iotrace "$@" --json "$name.json" >"$name.txt"
  cat "$name.txt"
}

choose_files
write_program
build=$(cd "$1" && pwd)
output=$(free_folder "${DEMO_OUTPUT:-demo-output}")
mkdir -p "$output"
cd "$output" # so that the commands shown are the ones that run
output=$(pwd)
PATH=$build:$PATH

heading "Recording a backup of $(wc -l <"$work/files") files: tar, gzip, dd with fsync"
show 'trace-record run -o backup.iotrace -- sh backup.sh'
(cd "$work" && trace-record run -o "$output/backup.iotrace" -- sh backup.sh)

heading 'What is in the trace'
show 'trace-record info backup.iotrace --json info.json'
trace-record info backup.iotrace >info.txt
trace-record info backup.iotrace --json info.json >/dev/null
cat info.txt

run_replay original 'Replaying as recorded: the same times, in a scratch directory' \
  --engine sync --speed original --order streams
run_replay max-1-worker 'Replaying as fast as it goes, one worker' \
  --engine sync --speed max --order depth --workers 1
run_replay max-2-workers 'Replaying as fast as it goes, two workers' \
  --engine sync --speed max --order depth --workers 2

heading 'Comparing the two runs at maximum speed'
show 'trace-replay diff max-1-worker.json max-2-workers.json --json diff.json'
trace-replay diff max-1-worker.json max-2-workers.json >diff.txt
trace-replay diff max-1-worker.json max-2-workers.json --json diff.json >/dev/null
cat diff.txt

# The other end of the next replay: it says where it waits, and stops after one connection, or when nobody comes.
start_server() {
  heading 'The other end of a connection, which receives what the backup writes'
  show 'trace-replay serve backup.iotrace --only write &'
  trace-replay serve backup.iotrace --only write --idle 10s >serve.txt 2>serve.log &
  server=$!
  address=''
  while [ -z "$address" ] && kill -0 "$server" 2>/dev/null; do
    sleep 0.1
    address=$(sed -n 's/^trace-replay: waiting at //p' serve.log)
  done
  cat serve.log
  [ -n "$address" ]
}

start_server
run_replay net 'Replaying the writes over the connection' --only write --target "$address" --speed max
wait "$server"
heading 'What the other end received'
cat serve.txt

heading 'Every engine of this machine on the same trace, in a fair order'
engines=''
for engine in sync splice mmap libaio io_uring; do
  if trace-replay engines | grep -A 1 "^$engine:" | grep -q '^  available'; then
    engines="$engines --engine $engine"
  else
    printf '%s is not available here; trace-replay engines says why\n' "$engine"
  fi
done
show "trace-replay compare backup.iotrace$engines --runs 3 --speed max -o engines"
# A difference that was found is no failure of the demo.
# shellcheck disable=SC2086
trace-replay compare backup.iotrace $engines --runs 3 --speed max -o engines >engines.txt
cat engines.txt

heading 'The two runs of before as a page for a browser'
show 'trace-replay diff max-1-worker.json max-2-workers.json --html diff.html'
trace-replay diff max-1-worker.json max-2-workers.json --html diff.html >/dev/null

heading "Everything is in $output"
ls -l
