# make demo: set up, train, show.   make test: set up, check, test.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: help demo test lint setup clean

help:
	@echo "make demo    train two networks on phantoms, turn the patient, draw the result"
	@echo "make test    lint and tests; PYTEST_ARGS='--real-data=DIR' adds those on real data"
	@echo "make lint    ruff and mypy"
	@echo "make setup   the virtual environment alone; PYTHON=... chooses the interpreter"
	@echo "make clean   remove the environment, caches and what the demo wrote"

# torch first: other packages would otherwise choose its version.
$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	  "$(PYTHON) is no Python 3.11 or newer with venv and ensurepip. Install them (Debian, Ubuntu: python3-venv)," \
	  "or choose another interpreter: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV): some minutes, most of them to download torch"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet -r requirements.txt -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
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
	rm -rf $(VENV) output/demo .pytest_cache .mypy_cache .ruff_cache
