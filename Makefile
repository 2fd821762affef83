# Chatgauge: everything that can be done with a checkout. `make` alone lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# The oldest that will do comes first: the locked requirements are resolved for it.
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$candidate; break; fi; done)
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --python-version 3.11

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What is tested beside: in Node, and against Alertmanager.
BESIDE := var/lib/.node examples/node_modules/.installed var/lib/.alertmanager

.PHONY: install
install: system $(VENV)/.installed var/lib/.kafka $(BESIDE) ## everything that running and testing needs

.PHONY: run
run: install ## install what is missing, then run Kafka, ClickHouse, all parts and simulated traffic
	@exec $(BIN)/chatgauge up $(UP)

WORKERS ?= 3
# First what measures time, by itself (5: there is nothing of the kind); then everything else.
.PHONY: test
test: install check ## install what is missing, then check and test everything; TESTS=tests/schemas a part
	@$(BIN)/python -m pytest -m alone $(TESTS); alone=$$?; \
	[ $$alone -le 1 ] || [ $$alone = 5 ] || exit $$alone; \
	$(BIN)/python -m pytest -m "not alone" -n $(WORKERS) --dist loadfile $(TESTS); beside=$$?; \
	case "$$alone $$beside" in "0 0"|"0 5"|"5 0") ;; *) exit 1 ;; esac

# What needs neither Kafka nor ClickHouse nor a process: says at its end what it left out.
.PHONY: test-fast
test-fast: $(VENV)/.installed ## test what needs no server, in about a minute; TESTS=tests/streams a part
	@$(BIN)/python -m pytest -q --fast --hypothesis-profile=fast -n 2 --dist loadfile $(TESTS)

MIN ?= 90
.PHONY: mutants
mutants: $(VENV)/.installed ## which changes no test notices: MODULES="streams/windows/packing.py ..." MIN=90
	@$(BIN)/python -m tests.mutants --min $(MIN) $(MODULES)

.PHONY: check
check: $(VENV)/.installed ## lint, formatting, types, the direction of imports, names
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.vocabulary

.PHONY: format
format: $(VENV)/.installed ## format the code and apply safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: install ## measure the product, its growth and its peers; writes bench/results (BENCH="--only latency")
	$(BIN)/python -m bench $(BENCH)

MINUTES ?= 30
.PHONY: soak
soak: install ## MINUTES=30 of steady live load: memory has to stay flat; SOAK="--rate 30000" sets the load
	$(BIN)/python -m bench.soak --minutes $(MINUTES) $(SOAK)

.PHONY: fuzz
fuzz: $(VENV)/.installed ## new inputs to the decoders; SECONDS=600, COUNT=cases, TARGETS=batches, SEED=n; findings are in var/fuzz
	$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(if $(COUNT),--cases $(COUNT)) \
		$(if $(SEED),--seed $(SEED)) $(if $(TARGETS),--targets $(TARGETS))

.PHONY: faults
faults: install ## faults on the running parts, then the comparison: SEED=1 COUNT=200; report in var/faults
	$(BIN)/python -m tests.faults --seed $(or $(SEED),1) --count $(or $(COUNT),200) --report var/faults

.PHONY: liveness
liveness: install ## each long-lived task of each part ended from inside: LIVENESS="--parts sink,api --each"
	$(BIN)/python -m tests.liveness $(LIVENESS)

.PHONY: delivery-drill
delivery-drill: install ## deliveries to failing receivers by a worker that is killed: SEED=1 COUNT=10000 KILLS=10
	$(BIN)/python -m tests.streams.deliveries.drill --seed $(or $(SEED),1) --count $(or $(COUNT),10000) \
		--kills $(or $(KILLS),10)

.PHONY: lock
lock: $(VENV)/.installed ## resolve the requirements anew, with hashes
	$(LOCK) pyproject.toml -o requirements/runtime.txt
	$(LOCK) pyproject.toml --group dev -o requirements/dev.txt

.PHONY: clean
clean: ## remove what building and testing left; keeps the environment and the data in var/
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove the environment, Kafka's jars and all data too
	rm -rf $(VENV) .venv-bench var examples/node_modules

# Java and Maven (and Node.js, for what is tested in it), where this may install them; otherwise
# `infra.kafka` says what is missing.
.PHONY: system
system:
	@if ! { command -v java && command -v mvn && command -v npm; } >/dev/null 2>&1 \
		&& [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			openjdk-17-jre-headless maven nodejs npm; fi

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "chatgauge: Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3" >&2; \
		exit 1; fi
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "chatgauge: $(PYTHON) -m venv failed (Debian and Ubuntu: apt-get install python3-venv)" >&2; \
		exit 1; }

# uv installs everything else, so it comes first, in the version and with the hashes that are locked.
$(BIN)/uv: $(BIN)/python
	@echo "installing uv into $(VENV)"
	@awk '/^[a-zA-Z0-9]/ {wanted = /^uv==/} wanted' requirements/dev.txt > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt

$(VENV)/.installed: $(BIN)/uv requirements/dev.txt pyproject.toml sdk/pyproject.toml
	@echo "installing the dependencies (locked, with hashes)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . -e ./sdk
	@touch $@

var/lib/.kafka: infra/kafka/pom.xml | $(VENV)/.installed
	@echo "fetching Kafka with Maven"
	@$(BIN)/python -m infra.kafka
	@touch $@

# What tests run beside: where one of the two can't be had, its tests skip and say so.
var/lib/.node: tests/node/package-lock.json | system
	@if command -v npm >/dev/null 2>&1; then \
		echo "installing the tests' Node packages (locked, with hashes)" && mkdir -p var/lib/node && \
		cp tests/node/package.json tests/node/package-lock.json tests/node/.npmrc var/lib/node/ && \
		npm ci --silent --prefix var/lib/node && touch $@; \
	else echo "no npm: tests in Node will be skipped"; fi

examples/node_modules/.installed: examples/package-lock.json | system
	@if command -v npm >/dev/null 2>&1; then \
		echo "installing the Node packages of the examples (locked, with hashes)" && \
		npm ci --silent --prefix examples && touch $@; \
	else echo "no npm: the example in Node will not be tested"; fi

# The package is unpacked, not installed, so that nothing is started; with what it takes to run it there.
var/lib/.alertmanager: | system
	@mkdir -p var/lib/alertmanager && cd var/lib/alertmanager && rm -f *.deb && \
	if { apt-get download -qq prometheus-alertmanager || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq prometheus-alertmanager; }; \
		} 2>/dev/null; then \
		echo "unpacking Alertmanager" && dpkg -x *.deb . && rm *.deb && mkdir -p tmp && \
		ldd usr/bin/prometheus-alertmanager | grep -o '/[^ ]*' | xargs cp --parents -L -t . && \
		touch ../.alertmanager; \
	else echo "no Debian package of Alertmanager: its test will be skipped"; fi
