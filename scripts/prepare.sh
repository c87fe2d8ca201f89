#!/bin/sh
# Installs the Debian packages that a purpose needs and that are missing, and checks that a Swift toolchain is there.
#
#   scripts/prepare.sh build|demo|test|bench|install
#
# Nothing is asked of the network when nothing is missing. What only some tests or comparisons use is optional: when it
# cannot be installed, they are skipped and say so themselves.
set -eu

purpose=${1:-build}
say() { printf 'prepare: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

required_packages() {
  # build-essential brings cc for the preload library and strip for `make install`; git fetches Swift packages.
  printf '%s\n' build-essential git liburing-dev libaio-dev libxxhash-dev zlib1g-dev
  case $purpose in
    demo) printf '%s\n' tar ;;
    bench) printf '%s\n' python3 ;;
  esac
}

optional_packages() {
  case $purpose in
    test) printf '%s\n' strace fio sqlite3 tar python3 bzip2 tmux mount e2fsprogs nbdkit qemu-utils libnbd-bin fdisk util-linux postgresql \
      redis-server redis-tools busybox-static python3-venv python3-jsonschema python3-prometheus-client chromium fonts-dejavu-core ;;
    bench) printf '%s\n' strace fio nbdkit bpftrace trace-cmd blktrace postgresql redis-server redis-tools sqlite3 busybox-static ;;
  esac
}

# The packages among the arguments that are not installed.
missing_among() {
  for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || printf '%s\n' "$package"
  done
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@" # nobody could answer a question for a password
  fi
}

may_become_root() {
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null 2>&1
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

# Package lists are refreshed once, and only when something has to be installed.
lists_are_fresh=no
install_packages() {
  if [ "$lists_are_fresh" = no ]; then
    apt_get update || say "apt-get update failed; trying with the package lists that are there"
    lists_are_fresh=yes
  fi
  apt_get install --yes --no-install-recommends "$@"
}

install_missing() {
  if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    say "this is not a Debian system; expecting the equivalents of: $(required_packages | xargs)"
    return 0
  fi
  # shellcheck disable=SC2046 # package names hold no blanks
  missing=$(missing_among $(required_packages) | xargs)
  if [ -n "$missing" ]; then
    may_become_root || fail "missing packages; neither root nor sudo is here, so please run as root: apt-get install $missing"
    say "installing the Debian packages $missing"
    # shellcheck disable=SC2086
    install_packages $missing ||
      fail "could not install $missing; please run as root: apt-get update && apt-get install $missing"
  fi
  # shellcheck disable=SC2046
  wanted=$(missing_among $(optional_packages) | xargs)
  [ -n "$wanted" ] || return 0
  if ! may_become_root; then
    say "not installed, what needs them is skipped: $wanted"
    return 0
  fi
  say "installing the Debian packages $wanted"
  for package in $wanted; do # one by one: one that the mirror lacks must not cost the others
    install_packages "$package" || say "could not install $package; what needs it is skipped"
  done
}

check_swift() {
  PATH=$PATH:/opt/swift/usr/bin:/usr/local/swift/usr/bin:$HOME/.local/share/swiftly/bin
  command -v swift >/dev/null 2>&1 ||
    fail "no Swift toolchain found (looked in PATH and /opt/swift/usr/bin); install Swift 6.1 or newer from https://www.swift.org/install/linux/"
  version=$(swift --version 2>&1 | sed -n 's/.*Swift version \([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' | head -n 1)
  case $version in
    [1-5].* | 6.0) fail "Swift $version is too old: Swift 6.1 or newer is needed, see https://www.swift.org/install/linux/" ;;
    '') fail "'swift --version' does not run: $(swift --version 2>&1 | head -n 1)" ;;
  esac
}

case $purpose in
  build | demo | test | bench | install) ;;
  *) printf 'usage: %s build|demo|test|bench|install\n' "$0" >&2; exit 2 ;;
esac
HOME=${HOME:-/root}
install_missing
check_swift
