# make demo · make test · make lint · make bench. Everything is installed into .venv, by the pins in constraints.txt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint bench readme clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   fit, backtest and forecast a real series (under two minutes after set-up)"
	@echo "make test   the whole test suite"
	@echo "make lint   ruff and pyright"
	@echo "make bench  our layers beside torch.nn's"
	@echo "make readme the README's table of results, from results/*.json"

$(READY): pyproject.toml constraints.txt
	@echo "[1/3] virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("lstmkit needs Python 3.10 or newer; try make PYTHON=python3.11") if sys.version_info < (3, 10) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[2/3] torch (CPU), then the rest by constraints.txt: some hundred MB, a few minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	@echo "[3/3] lstmkit itself, in place"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/lstmkit demo

test: $(READY)
	@$(BIN)/pytest -n 2 --durations 8

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

bench: $(READY)
	@$(BIN)/python benchmarks/layers.py

readme: $(READY)
	@$(BIN)/python docs/results_table.py

clean:
	rm -rf $(VENV) demo build dist
