# Every verb makes what it needs: a virtual environment in .venv, from the versions in requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet install --constraint requirements.lock

.PHONY: demo test check bench soak lock calendar format clean help

help: ## list the verbs
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/base.stamp: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing into .venv (a minute or two) …"
	$(PIP) --editable .
	@touch $@

.venv/dev.stamp: .venv/base.stamp
	$(PIP) --editable '.[dev]'
	@touch $@

demo: .venv/base.stamp ## generated data, a back-test and its report
	@echo "1/2  ibs data sample demo/bars"
	@$(BIN)/ibs data sample demo/bars --start 2022-01-03 --end 2024-12-31
	@echo "2/2  ibs backtest --parquet demo/bars --out demo/runs"
	@$(BIN)/ibs backtest --parquet demo/bars --out demo/runs
	@echo
	@echo "Look next:"
	@echo "  the report      $$(ls -td demo/runs/*/ | head -1)report.html"
	@echo "  your own bars   .venv/bin/ibs backtest --parquet YOUR.parquet"
	@echo "  the settings    .venv/bin/ibs config show"
	@echo "  the manual      README.md and docs/"

test: .venv/dev.stamp ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/dev.stamp ## lint, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev.stamp ## speed and memory, as ratios against the same run
	$(BIN)/python -m pytest bench -p benchmark --benchmark-only -q -s

soak: .venv/dev.stamp ## the long form of fault tests
	$(BIN)/python -m pytest -m soak

format: .venv/dev.stamp ## format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## pin the newest versions that fit
	uv pip compile --universal --python-version 3.11 --upgrade --extra dev --no-emit-index-url \
	  --no-header --no-annotate pyproject.toml --output-file requirements.lock

calendar: .venv/dev.stamp ## rebuild Data/cme_calendar.csv from the library and our overrides
	$(BIN)/python Data/build_calendar.py

clean: ## remove what make made
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
