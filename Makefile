# Two commands: `make demo` trains a network on real images, `make test` checks everything.
# Both make their own virtual environment in .venv once. `make demo TORCH=cpu` takes PyTorch's small CPU build.

PYTHON ?= python3
SEED ?= 0
BIN := .venv/bin
ifeq ($(TORCH),cpu)
PIP_FLAGS += --extra-index-url https://download.pytorch.org/whl/cpu
endif
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS)

.PHONY: help demo test test-full check format clean

help:
	@echo "make demo [SEED=0]   install, train a SEW ResNet on the embedded digits, print what it reached, write its report"
	@echo "make test            lint, types, import rules, tests (minutes)"
	@echo "make test-full       the same with the slow tests"
	@echo "make check           lint, types, import rules (seconds)"
	@echo "make format          put the code into the house style"
	@echo "make clean           remove .venv, caches and runs/demo"

demo: .venv/.run
	@rm -rf runs/demo
	$(BIN)/spikewise train digits --seed $(SEED) --out runs/demo
	$(BIN)/spikewise report runs/demo

test: check
	$(BIN)/python -m pytest -n auto -m "not slow"

test-full: check
	$(BIN)/python -m pytest -n auto

check: .venv/.dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: .venv/.dev
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

.venv/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "spikewise needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1); try make demo PYTHON=python3.12"; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv && $(PYTHON) -m venv .venv; } || \
		{ echo "$(PYTHON) -m venv failed; on Debian and Ubuntu: apt install python3-venv"; rm -rf .venv; exit 2; }
	@echo "installing into .venv (once; PyTorch is a large download)"
	$(INSTALL) --editable '.[report]'
	@touch $@

.venv/.dev: .venv/.run
	$(INSTALL) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv runs/demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
