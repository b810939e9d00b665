# make demo: set up, train, show.   make test: set up, check, test.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: help demo test lint setup clean

help:
	@echo "make demo    train two networks on phantoms, turn the patient, draw the result"
	@echo "make test    lint and tests; PYTEST_ARGS='--real-data DIR' adds those on real data"
	@echo "make lint    ruff and mypy"
	@echo "make setup   the virtual environment alone"
	@echo "make clean   remove the environment and what the demo wrote"

# torch first: other packages would otherwise choose its version.
$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar on "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet --progress-bar on -r requirements.txt -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --progress-bar on -r requirements-dev.txt
	@touch $@

setup: $(VENV)/.installed

demo: setup
	$(BIN)/python demo/run.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) output
