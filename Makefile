# make run: the demo. make test: everything. make check: what has to be clean before a commit.

CARGO ?= cargo
# The black-box tests mostly sleep, so many of them fit on one core.
TEST_THREADS ?= 24
FUZZ_SMOKE_ITERATIONS ?= 200000

CHAOS_SECONDS ?= 600
CHAOS_CLIENTS ?= 15000

.PHONY: run build test check chaos fuzz-smoke loom dist deb try-packages

run:
	$(CARGO) run --release -- --demo

build:
	$(CARGO) build --release

test:
	$(CARGO) test --features fuzzing,application -- --test-threads=$(TEST_THREADS)
	$(CARGO) test --no-default-features --lib

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --features fuzzing,application -- -D warnings
	$(CARGO) check --no-default-features
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --features application --no-deps

# Chaos on the real binary, long; what cannot run here is a failure. With debug assertions; CHAOS_PROFILE=--release without.
chaos:
	CHAOS_STRICT=true CHAOS_SECONDS=$(CHAOS_SECONDS) CHAOS_CLIENTS=$(CHAOS_CLIENTS) \
		$(CARGO) test $(CHAOS_PROFILE) --features fuzzing --test chaos

# What is published, in target/dist: release archive, wheel, npm packages, Debian packages. One of them: make deb.
dist:
	packaging/dist.sh
deb:
	packaging/dist.sh deb

# Installs and uses each of them on a clean prefix, in an environment or in a Debian of its own (root).
try-packages:
	packaging/try.py

# Every fuzz body over its corpus and over mutations of it; needs no nightly compiler.
fuzz-smoke:
	FUZZ_SMOKE_ITERATIONS=$(FUZZ_SMOKE_ITERATIONS) $(CARGO) test --release --features fuzzing --test fuzz_smoke

# Model check of the sleep protocol between cores.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --test mailbox_loom --release --no-default-features --target-dir target/loom
