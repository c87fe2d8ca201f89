#!/bin/sh
# Records the samples again.
#
#   samples/make.sh BUILD_FOLDER OUTPUT_FOLDER [NAME...]
#
# Each program works in /tmp/sample-NAME, which is made and removed here, so that the names in a trace say nothing about
# the machine on which it was recorded.
set -eu

build=$(cd "$1" && pwd)
mkdir -p "$2"
output=$(cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- tar sqlite3 git

sample_tar='tar -cf copy.tar -C /usr/share/perl/5.*.*/ Pod Module TAP && mkdir restored && tar -xf copy.tar -C restored'
sample_sqlite3='sqlite3 sample.db <inserts.sql'
sample_git='git init -q tree && cd tree && cp -r /usr/share/perl/5.*.*/Pod /usr/share/perl/5.*.*/TAP . && git add . && git commit -q -m sample'

prepare_sqlite3() {
  # 400 transactions of their own, a few lookups, then a table rewritten by an index.
  {
    echo 'create table item (id integer primary key, name text, value real);'
    seq 1 400 | sed 's/.*/insert into item values (&, "item number &", & * 1.5);/'
    seq 7 13 400 | sed 's/.*/select sum(value) from item where name = "item number &";/'
    echo 'create index item_name on item (name);'
  } >inserts.sql
}

record() {
  name=$1
  folder=/tmp/sample-$name
  mkdir "$folder" # one that exists is somebody else's
  (
    cd "$folder"
    [ "$name" != sqlite3 ] || prepare_sqlite3
    eval "command=\$sample_$name"
    # Who records must not show in the trace, and settings of theirs must not change it.
    env -i PATH=/usr/bin:/bin HOME="$folder" LC_ALL=C GIT_AUTHOR_NAME=sample GIT_AUTHOR_EMAIL=sample@example.org \
      GIT_COMMITTER_NAME=sample GIT_COMMITTER_EMAIL=sample@example.org GIT_CONFIG_NOSYSTEM=1 \
      "$build/trace-record" run --force -o "$output/$name.iotrace" -- sh -c "$command" >/dev/null
  ) || { rm -rf "$folder"; exit 1; }
  rm -rf "$folder"
}

for name in "$@"; do record "$name"; done
ls -l "$output"
