# Every verb makes what it needs: a virtual environment in .venv, from the versions in requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet install --constraint requirements.lock

.PHONY: demo demo-backtest demo-model demo-live demo-orders test check evidence bench bench-peers growth soak lock calendar format clean help

help: ## list the verbs
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/base.stamp: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing into .venv (a minute or two) …"
	$(PIP) --editable .
	@touch $@

.venv/dev.stamp: .venv/base.stamp
	$(PIP) --editable '.[dev]'
	@touch $@

.venv/train.stamp: .venv/base.stamp
	$(PIP) --editable '.[train]'
	@touch $@

.venv/live.stamp: .venv/base.stamp
	$(PIP) --editable '.[live]'
	@touch $@

FEATURES := bar_rsi2,bar_rsi5,bar_atr_z,bar_vol_z,bar_mom3_z,bar_bb_pctb,bar_eff_ratio,bar_ema_spread,day_ret1_pct,day_rsi5,day_bb_pctb,day_adx14,day_eff_ratio,day_ibs

demo: demo-backtest demo-model demo-live demo-orders ## generated data: a back-test, a veto model, a live replay, orders at a stand-in
	@echo
	@echo "Look next:"
	@echo "  the report      $$(ls -td demo/runs/*/ | head -1)report.html"
	@echo "  your own bars   .venv/bin/ibs backtest --parquet YOUR.parquet"
	@echo "  the settings    .venv/bin/ibs config show"
	@echo "  the manual      README.md and docs/"

demo-backtest: .venv/base.stamp ## its first part
	@echo "1/4  a back-test: ibs data sample demo/bars; ibs backtest --parquet demo/bars"
	@$(BIN)/ibs data sample demo/bars --start 2022-01-03 --end 2024-12-31
	@$(BIN)/ibs backtest --parquet demo/bars --out demo/runs

demo-model: .venv/train.stamp ## its second part, after the first
	@echo
	@echo "2/4  a veto for ES and CL: ibs model dataset, train, promote; off, shadow and veto beside each other"
	@rm -rf demo/models
	@cd demo && ../$(BIN)/ibs model dataset --parquet bars --symbols ES,CL --features $(FEATURES) --out candidates.parquet
	@cd demo && ../$(BIN)/ibs model train --dataset candidates.parquet --groups 3 --test-groups 1 --trials 3 --trees 50 --keep 6,12 --no-walk-forward
	@cd demo && for root in ES CL; do ../$(BIN)/ibs model promote $$root newest --force --quiet --reason "to show how it works"; done
	@cd demo && for mode in off shadow veto; do \
	  ../$(BIN)/ibs backtest --parquet bars --symbols ES,CL --model-mode $$mode --out runs-$$mode --quiet --no-report; done
	@cd demo && ../$(BIN)/ibs model veto-value --parquet bars --symbols ES,CL

demo-live: .venv/live.stamp ## its third part, after the first
	@echo
	@echo "3/4  December as if it were live, on paper: ibs run-live --replay demo/bars; then ibs parity"
	@rm -f demo/live.*
	@$(BIN)/ibs run-live --replay demo/bars --symbols ES,CL --start 2024-12-02 --speed max --journal demo/live.sqlite
	@$(BIN)/ibs parity --journal demo/live.sqlite

demo-orders: .venv/live.stamp ## its last part, after the first
	@echo
	@echo "4/4  orders leave: ibs demo-broker stands in for TradersPost; ibs run-live --armed --route demo"
	@rm -f demo/orders.* demo/broker.txt
	@$(BIN)/ibs demo-broker --replay --port 0 > demo/broker.txt & broker=$$!; trap 'kill -INT $$broker' EXIT; \
	  until grep -q listening demo/broker.txt; do kill -0 $$broker || exit 1; sleep 0.1; done; \
	  eval "$$(head -1 demo/broker.txt)"; \
	  $(BIN)/ibs run-live --replay demo/bars --symbols ES,CL --start 2024-12-16 --speed max \
	    --journal demo/orders.sqlite --armed --route demo || exit 1; \
	  sleep 1; trap - EXIT; kill -INT $$broker; wait $$broker
	@echo "the stand-in: $$(tail -1 demo/broker.txt)"
	@$(BIN)/ibs position list --journal demo/orders.sqlite
	@$(BIN)/ibs parity --journal demo/orders.sqlite

test: .venv/dev.stamp ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/dev.stamp ## lint, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

evidence: .venv/dev.stamp ## rebuild docs/evidence.md; its part on minute bars where they are
	$(BIN)/python docs/build_evidence.py

bench: .venv/dev.stamp ## speed and memory against budgets, as ratios within the run; writes bench/RESULTS.md
	$(BIN)/python -m pytest bench -p benchmark -p no:hypothesispytest --benchmark-only --benchmark-quiet -q --results bench/RESULTS.md

growth: .venv/dev.stamp ## rebuild docs/growth.md: time and memory against the size of everything
	$(BIN)/python docs/build_growth.py

# Their pins exclude one another: an environment each. One that does not install here is left out.
PEERS := $(notdir $(basename $(wildcard bench/peers/*.txt)))

.venv-peers/%.stamp: bench/peers/%.txt | $(BIN)/python
	@echo "installing $* into .venv-peers/$* …"
	@rm -rf .venv-peers/$*
	@$(BIN)/python -m venv .venv-peers/$*
	@.venv-peers/$*/bin/pip --disable-pip-version-check --quiet install --requirement $< && touch $@ \
	  || echo "$*: does not install here"

bench-peers: .venv/dev.stamp $(PEERS:%=.venv-peers/%.stamp) ## other back-testers on the same bars and rule; PEERS="vectorbt backtrader" takes these alone
	$(BIN)/python bench/peers/run.py $(if $(filter command,$(firstword $(origin PEERS))),--peers $(PEERS))

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
	rm -rf .venv .venv-peers demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
