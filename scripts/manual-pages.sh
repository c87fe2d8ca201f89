#!/bin/sh
# Generates the manual pages of built commands, one page per subcommand.
#
#   scripts/manual-pages.sh BUILD_FOLDER OUTPUT_FOLDER COMMAND...
#
# The generator belongs to swift-argument-parser and reads a command's --experimental-dump-help. Its plugin would build
# the whole package again with other linker options, so only the generator is built here, and called directly.
set -eu

build=$1
output=$2
shift 2

generator() {
  find .build -maxdepth 3 -type f -name 'generate-manual*' -perm -u+x \
    \( -name generate-manual-tool -o -name generate-manual \) -print | head -n 1
}

if [ -z "$(generator)" ]; then
  echo "building the generator of manual pages" >&2
  # The plugin's help needs the generator, and nothing else.
  swift package generate-manual --help >/dev/null 2>.build/generate-manual.log </dev/null || true
fi
tool=$(generator)
if [ -z "$tool" ]; then
  echo "could not build the generator of manual pages:" >&2
  tail -n 20 .build/generate-manual.log >&2
  exit 1
fi

# The date is that of the sources, so that the same sources give the same pages.
stamp=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
date=$(date -u -d "@$stamp" +%Y-%m-%d)

rm -rf "$output"
mkdir -p "$output"
for command in "$@"; do
  "$tool" "$build/$command" --multi-page --date "$date" --output-directory "$output" >&2
done

# Whether a page is of the command itself or of a subcommand that its help lists.
is_listed() {
  subcommand=${1#"$2".}
  subcommand=${subcommand%.1}
  [ "$1" = "$2.1" ] || "$build/$2" --help | grep -q "^  $subcommand "
}

# Pages of `help`, which say nothing, and of commands that are not for people go, and so do the references to them.
for command in "$@"; do
  for page in "$output/$command"*.1; do
    file=${page##*/}
    if is_listed "$file" "$command"; then continue; fi
    rm -f "$page"
    sed -i "/^\\.Xr ${file%.1} 1\\( ,\\)\\{0,1\\}$/d" "$output"/*.1
  done
done
# What is left may be a section without a reference, or a list that ends with a comma.
for page in "$output"/*.1; do
  sed -i -e ':all' -e 'N' -e '$!b all' \
    -e 's/\n\.Sh "SEE ALSO"\(\n\.Sh\|$\)/\1/' -e 's/\(\n\.Xr [^\n]* 1\) ,\(\n\.Sh\|\n*$\)/\1\2/' "$page"
done
