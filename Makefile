# Thin verbs over the `shopstream` command; docs: README.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
WEB := apps/web
COMPILE := uv pip compile --generate-hashes --no-emit-index-url --universal --python-version 3.11 --no-annotate --custom-compile-command "make lock" -q

.PHONY: help setup lock demo up down reset status verify test check fmt schemas bench bench-api bench-relay bench-sse bench-analytics bench-e2e chaos reliability simulate web-check web-test load soak

help: ## this list
	@awk 'BEGIN{FS=":.*## "} /^[a-z0-9-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' Makefile

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; found: $$($(PYTHON) --version 2>&1). Set PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing locked dependencies (once, a minute or more)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(WEB)/node_modules/.ready: $(WEB)/package-lock.json
	@command -v npm >/dev/null || { echo "npm (Node.js 20.19 or newer) is needed for the web page; install Node.js from your distribution or nodejs.org"; exit 1; }
	@echo "Installing the page's locked packages…"
	@cd $(WEB) && npm ci --silent --no-audit --no-fund
	@touch $@

setup: .venv/.ready $(WEB)/node_modules/.ready ## everything the other verbs need

lock: ## rewrite requirements.lock and those of the images from pyproject.toml (needs uv)
	$(COMPILE) pyproject.toml --all-extras --group dev -o requirements.lock
	@for app in api notifications analytics; do \
		$(COMPILE) pyproject.toml --extra $$app --constraint requirements.lock -o requirements/$$app.lock; done
	@echo 'quixstreams[s3]==3.28.1' | $(COMPILE) - -o requirements/bench-quix.lock
	@echo hatchling | $(COMPILE) - --constraint requirements.lock -o requirements/build.lock

demo: setup ## start everything, drive it for real, show what arrived where
	@$(BIN)/shopstream demo

up: setup ## start the system (idempotent)
	@$(BIN)/shopstream up

down: .venv/.ready ## stop the system; data stays
	@$(BIN)/shopstream down

reset: .venv/.ready ## stop the system and forget its data
	@$(BIN)/shopstream reset

status: .venv/.ready ## a line per process: port, health, memory
	@$(BIN)/shopstream status

verify: .venv/.ready ## prove that nothing was lost, doubled or reordered; JOURNAL=DIR: for clients and writes too
	@$(BIN)/shopstream verify $(if $(JOURNAL),--journal $(JOURNAL))

LOAD_MINUTES ?= 16
STREAMS ?= 10000
load: setup ## k6's users and thousands of streams on a system of its own, then verify; LOAD_MINUTES, STREAMS
	@$(BIN)/shopstream load-gate --minutes $(LOAD_MINUTES) --streams $(STREAMS)

SOAK_MINUTES ?= 30
soak: setup ## 60 % of the measured maximum on a system of its own, then verify; SOAK_MINUTES
	@$(BIN)/shopstream soak --minutes $(SOAK_MINUTES)

MINUTES ?= 10
SEED ?= 1
FAULTS ?=
chaos: setup ## kill, stop and cut off under load, on a system of its own, then verify; MINUTES, SEED, FAULTS, ACTS
	@$(BIN)/shopstream chaos --minutes $(MINUTES) --seed $(SEED) --faults "$(FAULTS)" $(if $(ACTS),--acts "$(ACTS)")

SEEDS ?= 1,2,3
reliability: setup ## chaos once a seed, the recoveries of all written to docs/reliability.md; MINUTES, SEEDS
	@$(BIN)/shopstream reliability --minutes $(MINUTES) --seeds $(SEEDS) --markdown docs/reliability.md

bench: setup ## all benchmarks in one go, one table, docs/benchmarks.md; about an hour
	@$(BIN)/shopstream bench --write

bench-api: setup ## the API against pgbench, on a system of its own; some ten minutes
	@$(BIN)/shopstream bench-api

bench-relay: setup ## the relay against a loop without transactions, on a system of its own
	@$(BIN)/shopstream bench-relay

bench-sse: setup ## the event stream beside a stock server, on a system of its own; some ten minutes
	@$(BIN)/shopstream bench-sse

bench-analytics: setup ## the workers beside bare loops and Quix Streams, on a system of its own; a quarter of an hour
	@$(BIN)/shopstream bench-analytics

OF ?= both
bench-e2e: setup ## from a POST to a hundred browsers, on a whole system of its own; five minutes
	@$(BIN)/shopstream bench-e2e

SCHEDULES ?= 10000
simulate: .venv/.ready ## relay and consumers under seeded schedules of faults; OF, SCHEDULES, SEED
	@$(BIN)/python -m tests.simulation --of $(OF) --schedules $(SCHEDULES) --seed $(SEED) --jobs $$(nproc)

check: setup ## lint, format, types, architecture; writes nothing
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check --no-cache .
	$(BIN)/mypy --cache-dir=.mypy_cache
	$(BIN)/lint-imports --no-cache
	cd $(WEB) && npm run --silent check

fmt: .venv/.ready ## apply the format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: .venv/.ready ## write the event schemas, the AsyncAPI and OpenAPI documents and the metrics page anew
	@$(BIN)/python -m shopstream_shared.events.schemas
	@$(BIN)/python -m shopstream_api.description
	@$(BIN)/python -m shopstream_analytics.description
	@$(BIN)/python -m shopstream_analytics.aggregates.manual

web-test: $(WEB)/node_modules/.ready
	cd $(WEB) && npm run --silent test

WORKERS ?= 2
test: setup web-test ## the whole suite on real components and free ports; WORKERS
	$(BIN)/shopstream prepare
	$(BIN)/python -m pytest -n $(WORKERS)
