# Two commands do all the set-up: `make demo` and `make test`.

PYTHON ?= python3
STORE ?= demo_experiments
ARGS ?=
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 8 ? n : 8)))

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
LOG := $(VENV)/install.log

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo demo-s3 demo-gcs test chaos lint types check docs bench bench-quick wheel clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP)  ## make .venv with everything that was tested

demo: $(STAMP)  ## train, crash, resume, change, on real digits (STORE=s3://bucket/prefix)
	@$(BIN)/python examples/train_digits.py --store "$(STORE)" $(ARGS)

demo-s3: $(STAMP)  ## the same on a real S3 server, started and stopped for it
	@$(BIN)/python -m tests.demo_server s3 $(ARGS)

demo-gcs: $(STAMP)  ## the same on a GCS emulator, started and stopped for it
	@$(BIN)/python -m tests.demo_server gcs $(ARGS)

# One computing thread a worker: torch's own threads would fight for the cores that the workers use.
test: $(STAMP)  ## run the tests (ARGS="-k name" for some)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(ARGS)

chaos: $(STAMP)  ## kill every operation at 200 random moments (ARGS="--rounds 20" for fewer)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(ARGS)

lint: $(STAMP)  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy --strict
	@$(BIN)/mypy

check: lint types test  ## all of lint, types, test

bench: $(BENCH_STAMP)  ## measure beside the others, write docs/performance.md (ARGS="--only 'disk save'" for some)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(BENCH_STAMP)  ## the same in two minutes, printed only
	@$(BIN)/python -m benchmarks --quick $(ARGS)

docs: $(STAMP)  ## write docs/cli.md from the commands
	@$(BIN)/python -m ckptstore.cli.reference >docs/cli.md

wheel: $(STAMP)  ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --outdir dist .

clean:  ## remove .venv, caches and what was built
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis demo_experiments
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "ckptstore needs Python 3.11 or newer, and '$(PYTHON)' is older or missing; try: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "==> making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet -c constraints.txt pip >$(LOG) 2>&1 || { tail -n 20 $(LOG) >&2; exit 1; }
	@echo "==> installing what was tested (constraints.txt); the first time takes a few minutes"
	@$(BIN)/python -m pip install -c constraints.txt --build-constraint constraints.txt \
	    --editable . --group dev 2>&1 | tee -a $(LOG) | $(SHOW_PIP) || { \
	  echo "==> pip failed; the end of $(LOG):" >&2; tail -n 20 $(LOG) >&2; exit 1; }
	@touch $@
	@echo "==> ready"

$(BENCH_STAMP): $(STAMP)
	@echo "==> installing what is measured beside ours"
	@$(BIN)/python -m pip install --quiet -c constraints.txt --group bench >$(LOG) 2>&1 || { tail -n 20 $(LOG) >&2; exit 1; }
	@touch $@

# pip prints several lines for each of a hundred packages; a terminal gets one line that changes, a log every 50th.
define SHOW_PIP
{ n=; while read -r verb what; do what=$${what%% *}; case "$$verb $$what" in \
    Collecting*|Processing*) n=$$((n + 1)); \
      if [ -t 1 ]; then printf '\r\033[K    %3d %s' $$n "$${what##*/}"; elif [[ $$n == *[05]0 ]]; then echo "    found $$n packages"; fi;; \
    "Installing collected") if [ -t 1 ]; then printf '\r\033[K'; fi; echo "    installing$${n:+ $$n packages}";; \
  esac; done; }
endef
