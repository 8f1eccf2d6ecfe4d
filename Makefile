# `make demo` and `make test` create the environment on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOWEST := $(VENV)-lowest
# Each test file runs in one worker, which sets up its fixtures once; the slow files start first (tests/order.py).
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-gpu test-lowest chromium lint audit wheel bench bench-gpu faults fuzz photographs quality docs docs-serve clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch is installed first and pinned: otherwise pip selects a newer build of several GB.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(INSTALLED)  ## train a tiny denoiser on photographs and show the result (minutes)
	$(BIN)/python -m mprnet_lit experiment=quickstart

# Four workers keep two cores busy, because some tests wait for other processes.
test: $(INSTALLED) chromium  ## run all tests with the newest versions that pyproject.toml allows
	$(BIN)/python -m pytest -n 4 $(BY_FILE)

# The tests run one after another, because some limit or measure the memory of the GPU.
test-gpu: $(INSTALLED)  ## run the tests of the GPU (minutes); without one, all are skipped
	$(BIN)/python -m pytest tests/gpu --durations 10

# Only `make test` runs the tests of the extras, the long tests, and the tests with two processes.
test-lowest: $(LOWEST)/.installed  ## run the tests of each dependency with its lowest version
	$(LOWEST)/bin/python -m pytest -n 2 $(BY_FILE) tests/data tests/images tests/video tests/inference tests/metrics \
	  tests/models tests/weights tests/cli/test_evaluate.py tests/cli/test_restore.py \
	  tests/config/test_config.py tests/test_contributing.py tests/training/test_losses.py tests/test_package.py \
	  --deselect tests/cli/test_evaluate.py::test_two_processes_write_the_same_table_as_one

$(LOWEST)/.installed: pyproject.toml requirements/lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet -c requirements/lowest.txt torch
	$(LOWEST)/bin/pip install --quiet -c requirements/lowest.txt -e . \
	  build hatchling hypothesis pytest pytest-xdist PyWavelets
	@touch $@

# Without Chromium, the tests of the report page are skipped.
chromium:
	@command -v chromedriver >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	  chromium chromium-driver >/dev/null; } || echo "Chromium is missing: the report page is not tested"

lint: $(INSTALLED)  ## check format, lint, types and prose
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tools.prose

# With --strict, a package that the service does not know is a failure. Local version labels such as
# +cpu are removed for the same reason.
audit: $(INSTALLED)  ## query OSV for vulnerabilities of the installed packages (uses the network)
	$(BIN)/pip freeze --exclude-editable | sed 's/+.*//' > $(VENV)/audited.txt
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --disable-pip --no-deps --vulnerability-service osv \
	  -r $(VENV)/audited.txt

# The time stamps are those of the commit, so every build of a commit has the same bytes.
wheel: $(INSTALLED)  ## build the wheel into dist/, reproducibly
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
	  $(BIN)/python -m build --wheel --no-isolation --outdir dist
	sha256sum dist/*.whl

fuzz: $(INSTALLED)  ## fuzz all readers with damaged and malicious files (minutes)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev,fuzz]"
	$(BIN)/python -m fuzz --runs 100000 --seconds 300

bench: $(INSTALLED)  ## compare speed and memory with a plain MPRNet; writes docs/performance.* (an hour)
	$(BIN)/python -m benchmarks --quality 10
	$(BIN)/python -m benchmarks.restoring

# A folder from an earlier version of the tool would keep photographs that are no longer in train.
build/photographs/.complete: tools/photographs.py | $(INSTALLED)
	rm -rf build/photographs/train
	$(BIN)/python -m tools.photographs build/photographs
	@touch $@

photographs: build/photographs/.complete  ## download the photographs for training and evaluating shipped weights (Debian, 194 MB)

# REAL=FOLDER also measures the sets in a folder, such as Rain100H, GoPro or Kodak (benchmarks/real.py).
quality: $(INSTALLED) photographs  ## compare the shipped weights with classical methods; writes docs/quality.* (an hour)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev,quality]"
	$(BIN)/python -m benchmarks.shipped build/photographs/held_out $(if $(REAL),--real $(REAL))

docs: $(INSTALLED)  ## build the documentation site into build/site
	$(BIN)/mkdocs build

docs-serve: $(INSTALLED)  ## serve the site and rebuild it on every change
	$(BIN)/mkdocs serve

# REFERENCE=FOLDER compares with a checkout of the reference implementation.
bench-gpu: $(INSTALLED)  ## compare speed and memory on a CUDA GPU; writes docs/performance_gpu.json (minutes)
	$(BIN)/python -m benchmarks.gpu $(if $(REFERENCE),--reference $(REFERENCE))

faults: $(INSTALLED)  ## kill and resume a training 30 times, and compare the final state (minutes)
	$(BIN)/python -m tools.faults

clean:  ## remove the environment and caches, but no runs
	rm -rf $(VENV) $(LOWEST) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
