# The package manager builds; this file knows the order of things around it.
#
#   make            release build                make demo       record, replay and compare a real program
#   make test       every test                   make bench      comparisons with their peers (BENCH=replay for one)
#   make install    below PREFIX, DESTDIR first  make uninstall  removes what install put there
#   make bench-production   servers under load, recorded and replayed, as root
#   make sanitize   the conformance, stream and NBD tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   make format     formats the sources          make lint       says what format would change
#   make man        manual pages                 make clean      removes what was built

PREFIX = /usr/local
DESTDIR =
SWIFT = swift
CC = cc
CFLAGS = -O2 -g -std=gnu11 -Wall -Wextra
# Sections of `make bench`, or programs of `make bench-production`; all of them unless named. Benchmarks/README.md lists both.
BENCH =
# More options of the package manager, for example SWIFTFLAGS=--disable-sandbox inside a container.
SWIFTFLAGS =

# A toolchain that was unpacked but is not on the search path is still found; so are the losetup and mkfs that tests use.
export PATH := $(PATH):/usr/sbin:/sbin:/opt/swift/usr/bin:/usr/local/swift/usr/bin

# The runtime is linked statically in every release build: one set of products serves demo, bench and install.
RELEASE = -c release --static-swift-stdlib $(SWIFTFLAGS)
RELEASE_FOLDER = .build/release
COMMANDS = trace-record trace-replay
STAGE = .build/stage
BENCH_FOLDER = Benchmarks/build
BENCH_PROGRAMS = $(patsubst Benchmarks/%.c,$(BENCH_FOLDER)/%,$(wildcard Benchmarks/*.c))

bindir = $(DESTDIR)$(PREFIX)/bin
libdir = $(DESTDIR)$(PREFIX)/lib/iotrace
mandir = $(DESTDIR)$(PREFIX)/share/man/man1
bashdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

.PHONY: all build demo test sanitize bench bench-production bench-programs install uninstall man completions format lint clean
.NOTPARALLEL:

all: build

build:
	@scripts/prepare.sh build
	$(SWIFT) build $(RELEASE)

demo:
	@scripts/prepare.sh demo
	$(SWIFT) build $(RELEASE)
	@scripts/demo.sh $(RELEASE_FOLDER)

# Building and running are two steps so that a failure to build is not taken for a failing test. Allocations are counted in the
# release build.
test:
	@scripts/prepare.sh test
	$(SWIFT) build $(RELEASE) --product trace-replay
	$(SWIFT) build --build-tests $(SWIFTFLAGS)
	$(SWIFT) test --skip-build $(SWIFTFLAGS)

# One build for both: AddressSanitizer for everything; UndefinedBehaviorSanitizer, which the compiler of Swift does not take on Linux,
# for the C sources, where it ends the program. Swift's own arithmetic and bounds are always checked. Leaks are not looked for: the
# runtime keeps what lives as long as the process.
SANITIZE = --sanitize address -Xcc -fsanitize=undefined -Xcc -fsanitize-trap=undefined --scratch-path .build/sanitize
SANITIZE_FILTER = Conformance|SpliceEngine|MmapEngine|Verification|TargetOption|NetTests|NetPeer|NetAddress|NetCommand|NBD
sanitize:
	@scripts/prepare.sh test
	$(SWIFT) build --build-tests $(SANITIZE) $(SWIFTFLAGS)
	ASAN_OPTIONS=detect_leaks=0:allow_user_segv_handler=1 \
	  $(SWIFT) test --skip-build $(SANITIZE) --filter '$(SANITIZE_FILTER)' $(SWIFTFLAGS)

bench: bench-programs
	@scripts/prepare.sh bench
	$(SWIFT) build $(RELEASE)
	@python3 Benchmarks/bench.py --build $(RELEASE_FOLDER) --programs $(BENCH_FOLDER) $(BENCH)

# Servers and other programs under load, recorded as root, counted by the kernel, and replayed.
bench-production:
	@scripts/prepare.sh bench
	$(SWIFT) build $(RELEASE)
	@python3 Benchmarks/production.py --build $(RELEASE_FOLDER) $(BENCH)

bench-programs: $(BENCH_PROGRAMS)

$(BENCH_FOLDER)/%: Benchmarks/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $< -luring -laio -lpthread

man: build
	@scripts/manual-pages.sh $(RELEASE_FOLDER) $(STAGE)/man $(COMMANDS)

completions: build
	@mkdir -p $(STAGE)/bash $(STAGE)/zsh $(STAGE)/fish
	@for command in $(COMMANDS); do \
	  $(RELEASE_FOLDER)/$$command --generate-completion-script bash > $(STAGE)/bash/$$command && \
	  $(RELEASE_FOLDER)/$$command --generate-completion-script zsh > $(STAGE)/zsh/_$$command && \
	  $(RELEASE_FOLDER)/$$command --generate-completion-script fish > $(STAGE)/fish/$$command.fish || exit 1; \
	done

install: man completions
	install -d $(bindir) $(libdir) $(mandir) $(bashdir) $(zshdir) $(fishdir)
	for command in $(COMMANDS); do install -m 755 -s $(RELEASE_FOLDER)/$$command $(bindir)/ || exit 1; done
	install -m 755 $(RELEASE_FOLDER)/iotrace_TraceRecord.resources/libtracepreload.so $(libdir)/
	strip --strip-unneeded $(libdir)/libtracepreload.so
	install -m 644 $(STAGE)/man/*.1 $(mandir)/
	install -m 644 $(STAGE)/bash/* $(bashdir)/
	install -m 644 $(STAGE)/zsh/* $(zshdir)/
	install -m 644 $(STAGE)/fish/* $(fishdir)/

uninstall:
	for command in $(COMMANDS); do \
	  rm -f $(bindir)/$$command $(mandir)/$$command.1 $(mandir)/$$command.*.1 $(bashdir)/$$command \
	    $(zshdir)/_$$command $(fishdir)/$$command.fish; \
	done
	rm -f $(libdir)/libtracepreload.so
	-rmdir $(libdir)

SWIFT_SOURCES = Package.swift Sources Tests Plugins $(wildcard Benchmarks/*/)
format:
	$(SWIFT) format format --in-place --parallel --recursive $(SWIFT_SOURCES)

lint:
	$(SWIFT) format lint --strict --parallel --recursive $(SWIFT_SOURCES)

clean:
	rm -rf .build $(BENCH_FOLDER)
