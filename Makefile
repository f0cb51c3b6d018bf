# What one types. `make` alone lists it. Works with GNU make 3.81 (macOS) and later.
BIN := .venv/bin
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-day ui clean test soak mutants databases check format lock schema bench

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: .venv/.ready ## Virtual environment in .venv with the locked packages; the other targets do it when needed

.venv/.ready: requirements.txt scripts/setup.sh
	@scripts/setup.sh && touch $@

demo: setup ## Extract the demo's databases through a running Airflow; again: only what is new
	@$(BIN)/python scripts/demo.py

demo-day: setup ## Add a day of changes to the demo's databases
	@$(BIN)/python scripts/demo.py day

ui: setup ## Airflow with its web page on http://localhost:8080, with the demo's databases
	@$(BIN)/python scripts/demo.py ui

clean: setup ## Remove what the demo has made: .airflow, demo/data, what its sources published
	@$(BIN)/python scripts/demo.py clean

test: setup databases check ## Every check and every test
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

soak: setup databases ## Late commits, many and long (SEEDS=10 SECONDS=30), and crashes at every step: some 30 minutes
	@EVERY_STEP=1 HISTORY_SEEDS=$(or $(SEEDS),10) HISTORY_SECONDS=$(or $(SECONDS),30) $(BIN)/python -m pytest -s -q \
		--timeout 1200 tests/integration/test_history.py tests/integration/test_numbers_history.py \
		tests/integration/test_crash_anywhere.py tests/integration/test_power_cut_of_a_disk.py

mutants: setup ## One-line faults that no test notices; hours (or: MODULES="phases/request cursor" NUMBER=50)
	@nice -n 15 $(BIN)/python scripts/mutants.py $(MODULES) $(if $(NUMBER),--number $(NUMBER)) $(OPTIONS)

databases: ## Install the database servers that the tests start, where they are missing and it is allowed
	@scripts/install_databases.sh

check: setup ## Lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## Format the code and repair what lint can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup databases ## Every benchmark, then bench/RESULTS.md; several hours (go on: make bench OPTIONS=--resume)
	@$(BIN)/python bench/run.py all $(OPTIONS)

lock: setup ## Compile requirements.txt from requirements.in (newest releases: make lock OPTIONS=--upgrade)
	@$(BIN)/uv pip compile requirements.in --override requirements.override --python-version 3.11 --universal \
		--no-header --quiet -o requirements.txt $(OPTIONS)

schema: setup ## Write the JSON Schema of include/sources, with which editors complete and check
	@$(BIN)/python scripts/write_schema.py
