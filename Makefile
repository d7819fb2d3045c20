# VexFS: the one place for commands. CI runs `make test` and nothing else.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
export QUESTION

# Where mount(8), mkfs(8) and fsck(8) look: /sbin, which is /usr/sbin on today's systems.
PREFIX ?= /usr
DESTDIR ?=
SYSTEM_PROGRAMS := mount.vexfs umount.vexfs mkfs.vexfs fsck.vexfs dump.vexfs
FUSE_PROGRAMS := mount.fuse.vexfs umount.fuse.vexfs
USER_PROGRAMS := vexfs
BIN := target/bin

VENV := $(or $(VEXFS_VENV),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vexfs/venv)
PYTHON := $(VENV)/bin/python
CODECS_VENV := $(or $(VEXFS_CODECS_VENV),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vexfs/codecs-venv)
INTEROP_VENV := $(or $(VEXFS_INTEROP_VENV),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vexfs/interop-venv)
PYTEST := $(PYTHON) -B -m pytest -p no:cacheprovider -rP --ignore=tests/mount/interop tests/mount
PYTEST_INTEROP := $(INTEROP_VENV)/bin/python -B -m pytest -p no:cacheprovider -rP tests/mount/interop

BENCH_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vexfs
BENCH_PYTHON := $(BENCH_CACHE)/bench-venv/bin/python
BENCH_DATA := $(BENCH_CACHE)/bench-data
METHODS ?= exact scan clustered graph

# The slow mount tests have targets of their own; `make test` runs them too.
SLOW := scale or linux

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup-build setup-demo setup-test setup-soak setup-apps setup-codecs setup-interop setup-coverage
SETUP_build := build
SETUP_demo := $(SETUP_build) demo
SETUP_test := $(SETUP_demo) test
SETUP_soak := $(SETUP_test) soak
SETUP_apps := $(SETUP_test) apps
SETUP_codecs := $(SETUP_build) codecs
SETUP_interop := $(SETUP_test) interop
SETUP_coverage := $(SETUP_build) coverage
setup-build setup-demo setup-test setup-soak setup-apps setup-codecs setup-interop setup-coverage: setup-%:
	@scripts/setup.sh $(SETUP_$*)

.PHONY: build
build: setup-build ## build everything; the programs are in target/bin under their real names
	cargo build --release --workspace
	@mkdir -p $(BIN)
	@for program in $(SYSTEM_PROGRAMS) $(USER_PROGRAMS); do \
		install -m 755 "$(CARGO_TARGET_DIR)/release/$${program//./_}" "$(BIN)/$$program"; done

.PHONY: install
install: ## install the programs [PREFIX=/usr] [DESTDIR=]; run `make build` first
	@for program in $(SYSTEM_PROGRAMS) $(USER_PROGRAMS); do \
		[ -x "$(BIN)/$$program" ] || { echo "make install: $(BIN)/$$program is missing; run 'make build' first" >&2; exit 1; }; done
	install -d "$(DESTDIR)$(PREFIX)/sbin" "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 $(addprefix $(BIN)/,$(SYSTEM_PROGRAMS)) "$(DESTDIR)$(PREFIX)/sbin"
	install -m 755 $(addprefix $(BIN)/,$(USER_PROGRAMS)) "$(DESTDIR)$(PREFIX)/bin"
# The kernel knows the mount as fuse.vexfs: umount(8), and mount(8) when it remounts, look for helpers of that type.
	@for program in $(FUSE_PROGRAMS); do ln -sfnv "$${program/.fuse/}" "$(DESTDIR)$(PREFIX)/sbin/$$program"; done
# Helpers elsewhere than in /sbin would not be found: link them there, unless /sbin leads to the same place (a package
# in the making, with DESTDIR, has no such link yet).
	@[ "$(PREFIX)" = /usr ] && [ -n "$(DESTDIR)" ] || { install -d "$(DESTDIR)/sbin"; \
	for program in $(SYSTEM_PROGRAMS) $(FUSE_PROGRAMS); do \
		[ "$(DESTDIR)/sbin/$$program" -ef "$(DESTDIR)$(PREFIX)/sbin/$$program" ] || \
		ln -sfnv "$(PREFIX)/sbin/$$program" "$(DESTDIR)/sbin/$$program"; done; }

.PHONY: uninstall
uninstall: ## take away what `make install` put there [PREFIX=] [DESTDIR=]
	rm -f $(foreach program,$(SYSTEM_PROGRAMS) $(FUSE_PROGRAMS),"$(DESTDIR)$(PREFIX)/sbin/$(program)" "$(DESTDIR)/sbin/$(program)")
	rm -f $(foreach program,$(USER_PROGRAMS),"$(DESTDIR)$(PREFIX)/bin/$(program)")

.PHONY: check
check: setup-build ## formatting, lints, the core without std, documentation, fast tests (under two minutes)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo check --package vexfs_core --no-default-features --quiet
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	cargo test --workspace --lib --bins --quiet

.PHONY: test
# The guest is emulated, mostly on one processor, for minutes that the tests beside it need not wait.
test: setup-test ## everything: check, crash tests, planted bugs, kernel module, conformance, real mounts
	$(MAKE) check
	$(MAKE) build
	scripts/beside.sh target/kernel.log "$(MAKE) kernel-core kernel" "$(MAKE) test-cargo test-volume test-bugs test-posix"
	$(MAKE) test-mount
	$(MAKE) test-interop

.PHONY: test-fast
test-fast: setup-demo build ## the mount tests without the slow ones [ONLY=expression]
	$(PYTEST) -m "not ($(SLOW))" $(if $(ONLY),-k "$(ONLY)")

.PHONY: test-cargo
# `check` ran the unit tests already, without the optimizer, which matters to the search alone.
test-cargo: setup-build ## tests of the programs and libraries, optimized, and the examples of the documentation
	cargo test --release --package vexfs_search --lib -- --show-output
	cargo test --release --workspace --exclude vexfs_tests --test '*' -- --show-output
	cargo test --release --workspace --doc

.PHONY: test-volume test-fuzz
test-volume: setup-build ## the core on simulated disks: crash, fault, corruption and model tests, damaged images
	VEXFS_EFFORT=usual cargo test --profile fuzz --package vexfs_tests -- --show-output

test-fuzz: setup-build ## damaged images with right checksums, nodes and names of any bytes, repairs [IMAGES=2000]
	VEXFS_EFFORT=usual $(if $(IMAGES),VEXFS_IMAGES=$(IMAGES)) cargo test --profile fuzz --package vexfs_tests \
		--test mutants --test decode --test repair -- --nocapture

.PHONY: soak-fuzz
soak-fuzz: setup-build ## as many damaged images as asked for, going on where the last run ended [IMAGES=1000000]
	IMAGES=$(or $(IMAGES),1000000) scripts/soak-fuzz.sh

.PHONY: soak-crash soak-faults soak-kill soak-mutants
soak-crash: setup-build ## crash states by the million, going on where the last run ended [STATES=5000000] [MINUTES=150]
	scripts/soak.sh crash

soak-faults: setup-build ## every call of the disk fails, as soak-crash [FAULTS=100000] [MINUTES=150]
	scripts/soak.sh faults

soak-kill: setup-test build ## the daemon killed under load, as soak-crash [KILLS=2000] [MINUTES=150]
	scripts/soak.sh kill

soak-mutants: setup-build ## mutation testing of journal, commit and space, as soak-crash [MUTANTS=N] [MINUTES=150]
	scripts/soak.sh mutants

.PHONY: coverage
coverage: setup-coverage ## which lines of the core its tests run; fails below 95 %
	scripts/coverage.sh

.PHONY: test-bugs
test-bugs: setup-build ## every allocation fails once; bugs are planted on purpose, and the crash tests must find each
	scripts/planted-bugs.sh

.PHONY: test-mount
test-mount: setup-test build ## all tests on real mounts, the slow ones too [ONLY=expression]
	$(PYTEST) $(if $(ONLY),-k "$(ONLY)")

.PHONY: wheel
wheel: setup-interop ## the Python package `vexfs` as a wheel, in target/wheels
	$(INTEROP_VENV)/bin/maturin build --quiet --release --manifest-path vexfs_python/Cargo.toml --out target/wheels

.PHONY: test-interop
test-interop: setup-interop build wheel ## what Python, pyarrow, polars, duckdb, faiss and sqlite-vec make of a mount and of exports [ONLY=expression]
	$(INTEROP_VENV)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps target/wheels/vexfs-*.whl
	$(PYTEST_INTEROP) $(if $(ONLY),-k "$(ONLY)")

.PHONY: test-posix
test-posix: setup-test build ## on a mount: pjdfstest, 100,000 operations of fsx, git, SQLite killed in the middle
	scripts/posix.sh pjdfstest fsx git sqlite

.PHONY: soak-posix soak-apps
soak-posix: setup-soak build ## longer, as soak-crash: pjdfstest (ext4 too), fsx with five seeds, git, SQLite, stress-ng, fio [MINUTES=150]
	scripts/soak.sh posix

soak-apps: setup-apps build ## as soak-crash: git with much history, cargo, SQLite, PostgreSQL, Linux's source, dbench [MINUTES=150]
	scripts/soak.sh apps

.PHONY: test-linux
test-linux: setup-test build ## unpack Linux's source on a mount, compare all, remove it
	$(PYTEST) -m linux

.PHONY: test-scale
test-scale: setup-test build ## 200,000 files and 100,000 vectors on a mount
	$(PYTEST) -m scale

.PHONY: demo
demo: setup-demo build ## documents, their embeddings, the mapped matrix [QUESTION="..."]
	$(PYTHON) -B scripts/demo.py --question "$$QUESTION"

.PHONY: python
python: setup-demo ## print the path of a Python with numpy and scikit-learn
	@echo $(PYTHON)

.PHONY: bench-alloc
bench-alloc: setup-build ## fragmentation over time: buddy against first-fit and next-fit
	cargo run --release --package vexfs_tests --bin bench-alloc

.PHONY: bench-index
bench-index: setup-demo build ## from which size on a search with an index is faster than one of all rows
	$(PYTHON) -B scripts/bench_index.py

.PHONY: kernel-core
kernel-core: ## build the core as a kernel object with rustc 1.85.1; prints its undefined symbols
	scripts/kernel-core.sh

.PHONY: bench-query
bench-query: setup-demo build ## what a question to a collection's `query` file takes, with each kind of index and without
	$(PYTHON) -B scripts/bench_query.py

.PHONY: bench bench-fsync bench-codecs bench-search bench-filter bench-import bench-million
bench: bench-alloc bench-fsync bench-codecs bench-search bench-index bench-query bench-filter bench-import ## all benchmarks

bench-codecs: setup-codecs ## batch codecs against memcpy and faiss, on one thread
	cargo build --release --package vexfs_search --bin bench-codecs
	$(CODECS_VENV)/bin/python -B scripts/bench_codecs.py

bench-search: setup-build ## search against numpy and eleven other engines on 100,000 real vectors; draws target/search.svg [METHODS="exact scan clustered graph", PEERS]
	scripts/bench-data
	cargo build --release --package vexfs_search --example bench_search --example bench_scan
	@mkdir -p target
	$(BENCH_PYTHON) -B scripts/bench_search.py --data "$(BENCH_DATA)/100000" \
		--program "$(CARGO_TARGET_DIR)/release/examples/bench_search" --methods $(METHODS) --chart target/search.svg $(if $(PEERS),--peers $(PEERS))

bench-million: setup-interop build wheel ## 1,000,000 x 768 on a mount: memory, and latency cold, warm and hot (8 GB of disk) [COUNT=1000000]
	scripts/bench-data
	$(INTEROP_VENV)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps target/wheels/vexfs-*.whl
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(INTEROP_VENV)/bin/python -B scripts/bench_million.py --data "$(BENCH_DATA)/100000" --count $(or $(COUNT),1000000)

bench-filter: setup-build ## conditions on 1,000,000 rows against DuckDB and numpy, on one thread
	scripts/bench-data
	cargo build --release --package vexfs_search --example bench_filter
	$(BENCH_PYTHON) -B scripts/bench_filter.py

bench-import: setup-interop build ## durable import against the disk's sequential writes and LMDB's batches
	$(INTEROP_VENV)/bin/python -B scripts/bench_import.py

bench-fsync: setup-test build ## setxattr + fsync against ext4 on the same disk
	$(PYTHON) -B scripts/bench_fsync.py

.PHONY: kernel
kernel: setup-test build ## build vexfs.ko for Debian's kernel, boot it in QEMU, test it there (root; cold: 4 GB, minutes)
	scripts/kernel.sh

.PHONY: bench-kernel
bench-kernel: setup-test build ## how long things take on vexfs.ko beside ext4, in the guest
	KERNEL_BENCH=1 KERNEL_ONLY="speed beside ext4" scripts/kernel.sh

.PHONY: soak
soak: setup-soak setup-apps build ## every long run, one after the other, each as soak-crash and ended after MINUTES [MINUTES=150]
	scripts/soak.sh all

.PHONY: clean
clean: ## remove what was built
	cargo clean
	rm -rf $(BIN)
