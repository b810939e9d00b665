# make demo: set up, segment, train, show.   make test: set up, check, test.   make label: serve the bundles to 3D Slicer.
# make docs: the site.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
KILLS ?= 200

# MONAI Label needs numpy 1.26, so it has an environment of its own.
LABEL_VENV := .venv-label
LABEL_BIN := $(LABEL_VENV)/bin
MODELS ?=
STUDIES ?=
PORT ?= 8000

# nnU-Net has an environment of its own: its dependencies choose a torchvision, and with it a torch.
NNUNET_VENV := .venv-nnunet
NNUNET_BIN := $(NNUNET_VENV)/bin

.PHONY: help demo test test-faults coverage lint docs setup label test-label test-nnunet clean

help:
	@echo "make demo    segment a brain in three poses, train two networks on phantoms and turn those, draw the results"
	@echo "make test    lint and tests; PYTEST_ARGS='--real-data=DIR' adds those on real data"
	@echo "make test-faults  kill commands KILLS=200 times, fill disks, damage files, and count what is lost"
	@echo "make coverage  the tests, slower, and how much of the package they reach: 97 % or an error"
	@echo "make label   serve bundles to 3D Slicer; MODELS='A,B' STUDIES=DIR PORT=8000 choose which, of what and where"
	@echo "make test-label  the tests of that, in its own environment"
	@echo "make test-nnunet  nnU-Net's own commands with networks of this package, in an environment of its own"
	@echo "make lint    ruff and mypy"
	@echo "make docs    the site, output/docs/index.html; a broken link is an error"
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
	$(BIN)/python -m pip install --quiet -r requirements.txt -e '.[bundles]'
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

$(VENV)/.installed-docs: requirements-docs.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -r requirements-docs.txt
	@touch $@

# All pages anew, for a page that is not read again warns of nothing.
docs: $(VENV)/.installed-docs
	@rm -rf output/docs output/.doctrees
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs -d output/.doctrees . output/docs
	@echo "The site is output/docs/index.html"

test: lint
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --dicom $(PYTEST_ARGS)

test-faults: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m faults --faults=$(KILLS) $(PYTEST_ARGS)

coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --cov $(PYTEST_ARGS)

$(LABEL_VENV)/.installed: requirements-label.txt pyproject.toml label/torchvision_operators.py
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo \
	  "$(PYTHON) is no Python 3.11, which MONAI Label 0.8.5 needs, with venv and ensurepip." \
	  "Choose another interpreter: make label PYTHON=python3.11" >&2; exit 1; }
	@echo "Setting up $(LABEL_VENV): some minutes, most of them to download torch"
	$(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_BIN)/python -m pip install "$$(grep '^torch==' requirements-label.txt)"
	PIP_CONSTRAINT='$(CURDIR)/requirements-label.txt' PIP_BUILD_CONSTRAINT='$(CURDIR)/requirements-label.txt' \
	  $(LABEL_BIN)/python -m pip install --quiet -r requirements-label.txt -e '.[bundles]'
	$(LABEL_BIN)/python -c 'import torchvision' 2>/dev/null || cp label/torchvision_operators.py \
	  "$$($(LABEL_BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sitecustomize.py"
	@touch $@

label: $(LABEL_VENV)/.installed
	@exec $(LABEL_BIN)/python label/serve.py --end_with_parent --port $(PORT) $(if $(MODELS),--models '$(MODELS)') \
	  $(if $(STUDIES),--studies '$(STUDIES)')

test-label: $(VENV)/.installed-dev $(LABEL_VENV)/.installed
	$(BIN)/python -m pytest tests/label --label-python=$(LABEL_BIN)/python $(PYTEST_ARGS)

$(NNUNET_VENV)/.installed: requirements-nnunet.txt pyproject.toml label/torchvision_operators.py
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	  "$(PYTHON) is no Python 3.11 or newer with venv and ensurepip. Choose another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(NNUNET_VENV): some minutes, most of them to download torch"
	$(PYTHON) -m venv $(NNUNET_VENV)
	$(NNUNET_BIN)/python -m pip install --quiet setuptools -r requirements-nnunet.txt -e '.[nnunet]'
	$(NNUNET_BIN)/python -c 'import torchvision' 2>/dev/null || cp label/torchvision_operators.py \
	  "$$($(NNUNET_BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sitecustomize.py"
	@touch $@

test-nnunet: $(VENV)/.installed-dev $(NNUNET_VENV)/.installed
	$(BIN)/python -m pytest tests/nnunet --nnunet=$(NNUNET_BIN)/python $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) $(LABEL_VENV) $(NNUNET_VENV) output/demo output/label output/docs output/.doctrees .pytest_cache .mypy_cache .ruff_cache
