# One command for each job; the same commands run in CI.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast check bench bench-peers profile budget test-faults test-kserve soak soak-memory fuzz docs

help:  ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Make the environment in .venv, everything pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"hotset needs Python 3.11 or newer, found {sys.version.split()[0]}; set PYTHON=..."'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: setup  ## Serve 1,000 city models from 50 places in memory, and show what happened (ONCE=1 ends after the table)
	$(BIN)/python -m hotset.demo $(if $(ONCE),--once,)

test: setup check  ## The checks and the whole test suite
	$(BIN)/python -m compileall -q src  # where PYTHONDONTWRITEBYTECODE is set, each of 500 processes would compile it all
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not alone and not faults' --durations 30
	$(BIN)/python -m pytest -m alone

test-fast: setup  ## The tests that take seconds
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow and not alone and not faults'

check: setup  ## ruff, mypy strict and import-linter
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## Measure everything beside bare uvicorn and bare Python; reports in bench-results (QUICK=1, ONLY="hot churn")
	command -v cc || command -v gcc || command -v clang || \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick,) $(if $(ONLY),--only $(ONLY),)

profile: setup  ## Say where the time of one hot request goes, in the gateway and in the child
	test -x $(BIN)/py-spy || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[profile]'
	$(BIN)/python benchmarks/request_profile.py

budget: setup  ## Record anew what one request may cost (tests/regression compares)
	$(BIN)/python tests/regression/budget.py

bench-peers: setup  ## The same work against other servers, each in an environment of its own (ONLY="ray triton", QUICK=1)
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/peers/compare.py $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

test-faults: setup  ## Cause every fault of the failure table, under a stream of requests; prints what they cost
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/fault
	HOTSET_KILLS=50 HOTSET_REQUESTS=20000 $(BIN)/python -m pytest -n 2 -s tests/integration/test_kill_while_fetching.py tests/integration/test_thousands_of_models.py

test-kserve: setup  ## KServe's own client, in an environment of its own
	test -x $(VENV)-kserve/bin/python || $(PYTHON) -m venv $(VENV)-kserve
	$(VENV)-kserve/bin/python -m pip install --quiet --disable-pip-version-check 'kserve==0.21.0'
	KSERVE_PYTHON=$(VENV)-kserve/bin/python $(BIN)/python -m pytest tests/integration/test_grpc_clients.py tests/integration/test_rest_clients.py -k kserve

soak: setup  ## Random traffic with rollovers, deletions and restarts for MINUTES=n, checking every promise
	$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),10)

fuzz: setup  ## Search for inputs that break what reads them, SECONDS=n for each target (ONLY="npy oip")
	for target in $(or $(ONLY),$$($(BIN)/python tests/fuzz/search.py --list)); do \
	  echo "$$target"; $(BIN)/python -W ignore tests/fuzz/search.py $$target --seconds $(or $(SECONDS),60) 2>&1 | \
	  tail -n 40 | grep -aE 'exception|Error|ERROR|written to|executed_units|peak_rss' ; test $${PIPESTATUS[0]} = 0 || failed=1; \
	done; test -z "$$failed"

soak-memory: setup  ## 10,000 loads and unloads of 200 models (CYCLES=n): memory afterwards is what it was after 400
	HOTSET_CYCLES=$(or $(CYCLES),10000) $(BIN)/python -m pytest -s --timeout 3600 tests/integration/test_memory_after_cycles.py

docs: setup  ## Write the generated pages of docs/ anew
	$(BIN)/python -m hotset.cli config docs > docs/configuration.md
