# `make demo` and `make test` do all the set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test chromium lint fuzz bench bench-gpu clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch first and pinned: left to itself, pip takes a newer build of several GB.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(INSTALLED)  ## train a tiny network on real photographs and look at the result (minutes)
	$(BIN)/python -m mprnet_lit experiment=quickstart

test: $(INSTALLED) chromium  ## run all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

# A browser for the tests of the report page; where it can't be installed, those are skipped.
chromium:
	@command -v chromedriver >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	  chromium chromium-driver >/dev/null; } || echo "no chromium: the report page is not tested"

lint: $(INSTALLED)  ## format check, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fuzz: $(INSTALLED)  ## give damaged and malicious files to all readers; counts what becomes of them (minutes)
	$(BIN)/pip install --quiet -e ".[fuzz]"
	$(BIN)/python -m benchmarks.fuzz --runs 100000 --seconds 300

bench: $(INSTALLED)  ## measure speed and memory against the plain baseline; writes docs/performance.* (an hour)
	$(BIN)/python -m benchmarks --quality 10
	$(BIN)/python benchmarks/restoring.py

bench-gpu: $(INSTALLED)  ## the same on a GPU, with the paper's denoiser
	$(BIN)/python -m benchmarks --device cuda --size base --batch 16 --patch 128 --side 720 \
	  --only training inference --output docs/performance_gpu.json
	$(BIN)/python -m benchmarks.counts

clean:  ## remove the environment and caches; runs are kept
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
