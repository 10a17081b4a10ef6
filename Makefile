# Pilothouse: `make up` and everything else. Needs Python 3.11+ and make; nothing else is installed on the machine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := agent apps cli controlplane demo embedded serving worker
# Compiled code is kept even where the environment says otherwise: else every process of `make up` and of the tests
# compiles all of Pilothouse anew, a second each.
export PYTHONDONTWRITEBYTECODE :=
# Tools that import the settings need values; none of these is ever connected to.
TOOL_ENV := DATABASE_URL=postgresql://tools@127.0.0.1:1/tools REDIS_URL=redis://127.0.0.1:1/0 \
	PILOTHOUSE_SECRET_KEY=only-for-tools-that-import-the-settings-and-never-serve-anything \
	PILOTHOUSE_INGEST_TOKEN=only-for-tools-too

.PHONY: help up test test-slow lint reset lock bench screenshots runtime dev
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# --- the virtual environment -------------------------------------------------------------------------------------
# One environment in two sizes: the runtime lock, or the dev lock, which holds it and more. The stamp names the hash of
# the lock that was installed, so running this again costs a checksum, and a changed lock is installed at once.
define install
	@set -e; \
	hash() { $(PYTHON) -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$$1"; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Pilothouse needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1 || true). Say which one: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	want=$$(hash requirements/$(1).lock); runtime=$$(hash requirements/runtime.lock); \
	have=$$(cat $(VENV)/.installed 2>/dev/null || true); \
	if [ "$$have" = "$(1) $$want $$runtime" ] || { [ "$(1)" = runtime ] && [[ "$$have" == dev\ *\ $$runtime ]]; }; then exit 0; fi; \
	umask 022; \
	rm -f $(VENV)/.installed; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Making the virtual environment $(VENV) with $$($(PYTHON) --version)"; \
		$(PYTHON) -m venv --clear $(VENV); \
	fi; \
	echo "Installing requirements/$(1).lock (the first time takes a few minutes)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/$(1).lock; \
	echo "$(1) $$want $$runtime" > $(VENV)/.installed
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s/python" -m cli.main "$$@"\n' '$(CURDIR)' '$(CURDIR)/$(BIN)' > $(BIN)/pilothouse && chmod +x $(BIN)/pilothouse
endef

runtime:
	$(call install,runtime)

dev: ## The virtual environment with everything the tests and checks need
	$(call install,dev)

# --- running -----------------------------------------------------------------------------------------------------
up: runtime ## Start everything and print one link; Ctrl-C stops it. Ports: PILOTHOUSE_WEB_PORT=9000 make up
	@exec $(BIN)/python -m embedded.up

reset: runtime ## Stop everything and remove all data (var/)
	@$(BIN)/python -m embedded.up --reset

# --- checking ----------------------------------------------------------------------------------------------------
# Three processes, since many tests wait for real programs; a file (or a folder that shares a running product) in one.
# JOBS=0 for one process and a debugger.
JOBS ?= 3
test: dev ## All tests but the slow ones
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

SLOW ?= slow or hypothesis
HYPOTHESIS ?= search
test-slow: dev ## Long simulations, soaks, new examples for property tests, the whole chaos matrix (20 minutes of it)
	$(BIN)/python -m pytest -m "$(SLOW)" --hypothesis-profile=$(HYPOTHESIS) $(PYTEST_ARGS)

lint: dev ## Style, types, layers, migrations, system checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(TOOL_ENV) $(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports
	$(TOOL_ENV) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(TOOL_ENV) $(BIN)/python manage.py check

bench: dev ## What is fast, measured beside its peers (benchmarks/)
	@test -d benchmarks || { echo "There are no benchmarks yet." >&2; exit 1; }
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file; done

screenshots: dev ## Pictures of the running product for the README
	@test -f docs/screenshots.py || { echo "There is no docs/screenshots.py yet." >&2; exit 1; }
	$(BIN)/python docs/screenshots.py

# --- dependencies ------------------------------------------------------------------------------------------------
lock: ## Write requirements/*.lock anew from pyproject.toml
	@echo "Resolving into requirements/ (needs pip-tools, installed into a temporary environment)"
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install --quiet --disable-pip-version-check pip-tools; \
	"$$folder/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
		--no-emit-trusted-host --output-file requirements/runtime.lock pyproject.toml; \
	"$$folder/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
		--no-emit-trusted-host --extra dev --constraint requirements/runtime.lock --output-file requirements/dev.lock pyproject.toml
