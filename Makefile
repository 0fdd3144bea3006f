# Each command installs what it needs; a second run starts at once.
#
#   make demo DATA=<folder>     site-*/images/*.nii.gz + site-*/labels/*.nii.gz instead of the generated phantom
#   make demo TORCH_INDEX=<url> an extra pip index to take torch from, e.g. that of its CPU or CUDA builds
#   make demo PYTHON=python3.12 another interpreter, 3.11 to 3.13

PYTHON ?= python3
DATA ?=
TORCH_INDEX ?=
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Twice: once leaves warnings, errors are always shown.
QUIETLY := --quiet --quiet --root-user-action=ignore --constraint constraints.txt
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# Named by content, not by time: a checkout that changes neither file installs nothing again.
KEY := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)
RUNTIME := $(VENV)/.runtime-$(KEY)
WORKSHOP := $(VENV)/.workshop-$(KEY)
DOCS := $(VENV)/.docs-$(KEY)

export PYTHON
export PIP_NO_INPUT := 1
# Where memory has room for the files of tests, the fast ones wait for no disk; the others try what a disk keeps.
IN_MEMORY := $(shell test -w /dev/shm && test "$$(df -k --output=avail /dev/shm | tail -n 1)" -gt 4000000 && \
    echo PYTEST_DEBUG_TEMPROOT=/dev/shm)
# Where bytecode may not be kept, each process that a test starts compiles the package again, and pytest its tests.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check format docs bench install clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 18

demo: $(RUNTIME) ## three hospitals train one model on this machine; ends with a table and demo-results/
	@scripts/need "the demo's sites train in a sandbox and refuse without one" bwrap=bubblewrap
	@$(BIN)/archipel demo $(if $(DATA),"$(DATA)")

test: $(WORKSHOP) ## all tests, with real processes, sandboxes and a real web proxy
	@scripts/need "tests of sandboxed workers and real sites are skipped" bwrap=bubblewrap
	@scripts/need "the test of a site behind a web proxy is skipped" tinyproxy=tinyproxy-bin
	@$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder --quiet

test-fast: $(WORKSHOP) ## the part of the suite without real processes, with a quarter of the random examples
	@$(IN_MEMORY) OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal --quiet \
	    -m "not processes" --hypothesis-profile few -o tmp_path_retention_policy=failed

check: $(DOCS) ## lint, format, strict types, the contract between packages, docs
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@scripts/build-docs

format: $(WORKSHOP) ## fix what ruff can fix
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: $(DOCS) ## build the documentation into build/docs
	@scripts/build-docs

bench: $(RUNTIME) ## the figures of the README; one JSON line each
	@scripts/need "benchmarks run real sandboxed workers" bwrap=bubblewrap
	@$(BIN)/archipel bench round --sites 4 --size-mb 200 --json
	@$(BIN)/archipel bench round --sites 8 --size-mb 200 --json
	@$(BIN)/archipel bench round --sites 4 --size-mb 1 --json
	@$(BIN)/archipel bench training --json
	@$(BIN)/archipel bench data $(if $(DATA),--data "$(DATA)") --json

install: $(DOCS) ## only make .venv, with everything in it

clean: ## remove what these commands made, .venv too
	rm -rf $(VENV) build demo-results .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@scripts/need "no virtual environment can be made" $(PYTHON) ensurepip=python3-venv
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)

$(RUNTIME): | $(BIN)/python
	@echo "installing into $(VENV) (the first time takes some minutes) ..."
	@$(PIP) install $(QUIETLY) pip setuptools
	@$(PIP) install $(QUIETLY) $(INDEX) --no-build-isolation --editable ".[torch,notebook,tables,bids]"
	@rm -f $(VENV)/.runtime-* && touch $@

$(WORKSHOP): $(RUNTIME)
	@echo "installing the tools for tests and checks ..."
	@$(PIP) install $(QUIETLY) --group dev
	@rm -f $(VENV)/.workshop-* && touch $@

$(DOCS): $(WORKSHOP)
	@echo "installing the tools for docs ..."
	@$(PIP) install $(QUIETLY) --group docs
	@rm -f $(VENV)/.docs-* && touch $@
