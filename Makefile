# Everything a fresh clone needs: `make demo`, `make test`, `make check`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where this is set (container images do), every process of a test compiles its imports again: 20 s.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check lint types contracts size install lock kubric-env kubric-lock clean help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile

demo: $(STAMP)  ## simulate, PSFT, ORO (flow), evaluate, report
	$(BIN)/python train.py experiment=oro_flow

test: $(STAMP)  ## fast tests, offline, CPU
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy
	$(BIN)/mypy

contracts: $(STAMP)  ## import-linter
	$(BIN)/lint-imports

size:  ## files, lines, configs, words, parameter lists
	@$(PYTHON) .ci/size.py

check: lint types contracts size test  ## all of these

install: $(STAMP)  ## the environment, with all that tests need

$(STAMP): requirements.lock requirements-uv.lock pyproject.toml
	command -v $(PYTHON) >/dev/null || { echo "error: Python 3.11 is needed; set PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-build-isolation --no-deps -e .
	touch $@

KUBRIC := .venv-kubric
kubric-env: $(KUBRIC)/.installed  ## the renderer of simulation=kubric, in an environment of its own (1.5 GB)

$(KUBRIC)/.installed: requirements-kubric.lock | $(STAMP)
	test -x $(KUBRIC)/bin/python || $(PYTHON) -m venv --without-pip $(KUBRIC)
	$(BIN)/uv pip sync -q --python $(KUBRIC)/bin/python --require-hashes requirements-kubric.lock
	touch $@

kubric-lock:  ## renew the renderer's lock file
	uv pip compile --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --override requirements-kubric-overrides.txt requirements-kubric.in -o requirements-kubric.lock \
	  --custom-compile-command "make kubric-lock"

lock:  ## renew the lock files
	uv pip compile --generate-hashes --no-emit-index-url --extra annotate --group dev --group ops pyproject.toml -o requirements.lock \
	  --custom-compile-command "make lock"
	echo "uv==0.13.9" | uv pip compile --generate-hashes --no-emit-index-url - -o requirements-uv.lock \
	  --custom-compile-command "make lock"

clean:  ## remove the environments; data sets and runs: pisa clean
	rm -rf $(VENV) $(KUBRIC)
