# Two commands for a new machine: `make demo` and `make test`. Both create .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help demo test test-slow test-gpu check bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed ## render three videos, track them on a local Ray, score them
	$(BIN)/jde demo --out runs/demo

test: $(VENV)/.installed ## all tests except `slow` and `gpu`
	$(BIN)/pytest

test-slow: $(VENV)/.installed ## the tests left out of `make test`, by name
	$(BIN)/pytest -m slow

test-gpu: $(VENV)/.installed ## the tests that need a GPU
	$(BIN)/pytest -m gpu

check: $(VENV)/.installed ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed ## the association compared with a plain loop
	$(BIN)/jde bench association

clean: ## remove .venv and runs
	rm -rf $(VENV) runs
