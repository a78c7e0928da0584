# One address for everything a newcomer or the build machine does. Needs a Python of 3.11 or newer,
# make and a package index; everything else goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The versions that the pinned requirements have ready-made wheels for, newest first.
# `make PYTHON=/path/to/python ...` takes another one.
CANDIDATES := python3.14 python3.13 python3.12 python3.11 python3
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?=

# Options for the demo and the tests: `make demo DEMO_ARGS=--once`, `make test TEST_ARGS="-k serial"`.
DEMO_ARGS ?=
TEST_ARGS ?=
# Files of tests side by side, as many as there are cores, four at most.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
BENCH_ARGS ?= --short

# What `make bundle` makes: server, server-gpu or trainer, for this Python and machine or another:
# `make bundle BUNDLE=trainer BUNDLE_PYTHON=3.12 BUNDLE_MACHINE=x86_64`.
BUNDLE ?= server
BUNDLE_PYTHON ?=
BUNDLE_MACHINE ?=

BIN := .venv/bin
READY := .venv/.ready
UV := $(BIN)/uv
COMPILE := $(UV) pip compile --quiet --upgrade --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --custom-compile-command "make requirements"

# The large libraries take their time on a slow line.
export UV_HTTP_TIMEOUT ?= 300
# The environment is made from the Python found here; none is fetched from elsewhere.
export UV_PYTHON_DOWNLOADS := never

.PHONY: help demo test check lint bench bench-all bundle requirements environment clean

help: ## say what there is
	@echo "make demo          set everything up, then train, serve, inspect and show"
	@echo "make test          set everything up, then pass the tests"
	@echo "make check         linter, formatter, types, import rules, then the tests"
	@echo "make lint          the same without the tests"
	@echo "make bench         how fast the server is: a table and a plot, in a few minutes"
	@echo "make bench-all     every benchmark, short"
	@echo "make bundle        one archive that installs the server without a network (BUNDLE=trainer)"
	@echo "make requirements  pin the newest versions that the ranges allow"
	@echo "make environment   only make .venv"
	@echo "make clean         remove .venv, caches and build outputs; records, models and data stay"

environment: $(READY)

demo: $(READY)
	@$(BIN)/inspection demo $(DEMO_ARGS)

test: $(READY)
	@$(BIN)/python -m pytest $(PARALLEL) $(TEST_ARGS)

check: lint
	@$(BIN)/python -m pytest $(PARALLEL) $(TEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Keeps its packages, images and the rivals' environments in var/bench; the first run makes them.
bench: $(READY)
	@$(BIN)/python benchmarks/serving/bench.py all $(BENCH_ARGS)

# Every Python file in a folder of benchmarks/ whose name begins with a letter is a script that knows
# --short.
bench-all: $(READY)
	@shopt -s nullglob; \
	for script in benchmarks/*/[a-z]*.py; do \
		echo "== $$script $(BENCH_ARGS)"; \
		$(BIN)/python "$$script" $(BENCH_ARGS); \
	done

bundle: $(READY)
	$(BIN)/python requirements/bundle.py $(BUNDLE) $(if $(BUNDLE_PYTHON),--python $(BUNDLE_PYTHON)) \
		$(if $(BUNDLE_MACHINE),--machine $(BUNDLE_MACHINE))

# The environment itself, with uv in it.
$(UV): requirements/tools.txt
	@if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
		chosen="$(PYTHON)"; seen=""; fits='$(FITS)'; \
		if [ -n "$$chosen" ]; then \
			"$$chosen" -c "$$fits" 2>/dev/null || { \
				echo "error: PYTHON=$$chosen does not run, or is not 3.11 to 3.14" >&2; exit 4; }; \
		else \
			for each in $(CANDIDATES); do \
				"$$each" -c "$$fits" 2>/dev/null || continue; \
				seen="$$each"; \
				"$$each" -c 'import ensurepip, venv' 2>/dev/null || continue; \
				chosen="$$each"; break; \
			done; \
			if [ -z "$$chosen" ] && [ -z "$$seen" ]; then \
				echo "error: no Python of 3.11 to 3.14 found" >&2; \
				echo "  → install one, or name it: make PYTHON=/path/to/python3" >&2; exit 4; \
			fi; \
			chosen="$${chosen:-$$seen}"; \
		fi; \
		echo "making .venv with $$chosen ($$("$$chosen" --version))"; \
		"$$chosen" -m venv --clear .venv || { \
			echo "error: $$chosen could not make .venv" >&2; \
			echo "  → on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 4; }; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary :all: -r requirements/tools.txt
	@touch $(UV)

# The marker is written last: an interrupted set-up is simply done again. uv does not read pip's
# configuration, so where pip is pointed at a plant's own index, uv is pointed there too.
$(READY): pyproject.toml requirements/dev.txt $(UV)
	@index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-}}"; \
	index="$${index:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null || true)}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(UV) pip install --python $(BIN)/python --require-hashes -r requirements/dev.txt && \
	$(UV) pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

# dev.txt decides; the others are held to it, so that all environments agree.
requirements: $(UV)
	$(COMPILE) --all-extras pyproject.toml -o requirements/dev.txt
	$(COMPILE) -c requirements/dev.txt --group tools -o requirements/tools.txt
	$(COMPILE) -c requirements/dev.txt --extra serve --extra otel --extra postgresql --extra triton \
		pyproject.toml -o requirements/serve.txt
	$(COMPILE) -c requirements/dev.txt --extra train pyproject.toml -o requirements/train.txt
	$(COMPILE) -c requirements/dev.txt --extra gpu pyproject.toml -o requirements/gpu.txt
	$(COMPILE) requirements/triton-server.in -o requirements/triton-server.txt
	@echo "pinned anew; make check installs and tries them"

clean: ## records under var/, models and data sets are never touched
	rm -rf .venv .triton .triton.lock build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +
