# The two commands of the README are `make up` and `make test`; each does all of its own set-up.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: up down build test bench chaos dst posix lint fix

target := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
xtfs := $(target)/release/xtfs

# Starts a file system in ./xtfs-data, mounted at ./xtfs-data/mnt; writes a file and runs a job in it.
up: build
	@tools/up

# Stops it.
down:
	@$(xtfs) down --data xtfs-data

build:
	@tools/setup build
	cargo build --release --locked --package xtfs

# Everything that continuous integration runs.
test:
	@tools/test

# Our figures beside local ext4, GlusterFS and MooseFS in one run, with CPU per operation (benches/macro), then the
# micro-benchmarks of codec, stripes, checksums, OSD store and namespace. Results in $(target)/bench, $(target)/criterion.
bench: build
	@tools/setup bench
	benches/macro/run $(BENCH)
	cargo bench --locked --package xtfs-benches

# Real processes under load, killed, paused, cut off, replaced, damaged, without room, for 60 s: make chaos [CHAOS='--seed 7 --duration 600']
# Report: $(target)/chaos/report.html. With SEEDS, the old spelling of `make dst`.
ifdef SEEDS
chaos: dst
else
chaos: build
	$(xtfs) chaos --out $(target)/chaos $(CHAOS)
endif

# Simulated clusters under faults, a seed for each run: make dst SEEDS=0..100000 (default: 10,000 new ones)
dst:
	@tools/setup build
	cargo xtask dst --meta 1
	from=$$(($$(date +%s) * 100000)); cargo xtask dst --seeds $(or $(SEEDS),$$from..$$((from + 10000)))

# The public POSIX suites on a real mount: make posix [XTFS_SHARED=DIR]
posix: build
	@tools/setup test
	@tools/posix

# The gate that writes nothing, and what it can mend by itself.
lint:
	@tools/setup build
	cargo xtask verify
fix:
	cargo xtask fix
