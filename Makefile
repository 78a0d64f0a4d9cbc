.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: help setup demo test lint types bench docs clean

help: ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.developer ## virtual environment with the package, all extras and the developer's tools

$(VENV)/.user: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[plots]'
	@touch $@

$(VENV)/.developer: $(VENV)/.user
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

demo: $(VENV)/.user ## the main job on its embedded default, under five minutes on two cores
	$(BIN)/kexue-run task=lamost model=conv1d_res
	$(BIN)/kexue runs task=lamost

test: setup ## every test; real data sets are used where KEXUE_DATA_DIR has them
	$(BIN)/python -m pytest -q -n $(WORKERS)

lint: setup ## format and lint, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup ## static types
	$(BIN)/mypy

bench: setup ## short benchmarks that need no peer beyond make setup; the other scripts' --help names theirs
	$(BIN)/python bench/manage_listing.py --runs 1000
	$(BIN)/python bench/manage_tracking.py
	$(BIN)/python bench/loop_overhead.py --steps 4 --rounds 1
	$(BIN)/python bench/lamost_convert.py --files 500 --repeats 1
	$(BIN)/python bench/lamost_speed.py --seconds 1
	$(BIN)/python bench/vae_cells.py --k 1 --turns 3
	$(BIN)/python bench/em_speed.py --only diag
	$(BIN)/python bench/gpt2_generate.py --batches 1

docs: setup ## build the documentation site into site/
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict

clean: ## remove everything that can be made again (runs and data stay)
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
