# Two commands for a new machine: `make demo` and `make test`. Both create .venv first.
SHELL  := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PREFIX ?= /opt/jde-ray
EXTRAS ?=
# of pip's output: packages of 10 MB and more
SHOW_LARGE := sed -unE \
  -e 's/^ *(Downloading|Using cached) ([^-]+)-([^-]+)-.* (\(([0-9]{2,}(\.[0-9]+)? MB|[0-9.]+ GB)\))/  \2 \3 \4/p' \
  -e 's/^Installing collected packages.*/  unpacking and compiling, a minute or two/p'

.PHONY: help install demo test test-slow test-gpu check docs bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing torch, Ray and the test tools into $(VENV): 2 to 3 GB on disk (more with torch's"
	@echo "GPU libraries), once, some minutes. Of 10 MB and more:"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -c constraints.txt -e '.[dev]' | $(SHOW_LARGE)
	@echo "installed; the first start of each program takes longer than the next ones"
	@touch $@

install: ## for a production host: jde and its packages alone, in PREFIX (EXTRAS=hub,onnx adds some)
	@echo "installing jde, torch and Ray into $(PREFIX): 2 to 3 GB on disk (more with torch's GPU"
	@echo "libraries), some minutes. Of 10 MB and more:"
	@rm -rf build # modules of an earlier build, which would be installed too
	@$(PYTHON) -m venv $(PREFIX)
	@$(PREFIX)/bin/pip install -c constraints.txt '.$(if $(EXTRAS),[$(EXTRAS)])' | $(SHOW_LARGE)
	@rm -rf build *.egg-info # root's, after sudo: they would be in the way of a build as somebody else
	@echo "installed; $(PREFIX)/bin/jde does not need this checkout any more"

demo: $(VENV)/.installed ## render three videos, track them on a local Ray, score them
	$(BIN)/jde demo --out runs/demo

# the tests start hundreds of programs: what one of them has compiled is read by the next
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.installed ## all tests except `slow` and `gpu`
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.installed ## the tests left out of `make test`, by name
	$(BIN)/pytest -m slow

test-gpu: $(VENV)/.installed ## the tests that need a GPU
	$(BIN)/pytest -m gpu

check: $(VENV)/.installed ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed ## the documentation as a site; dead links and wrong commands end it
	$(BIN)/pytest -q tests/test_documents.py -k "not python"
	$(BIN)/python -m docs.site build/site

bench: $(VENV)/.installed ## the association compared with a plain loop
	$(BIN)/jde bench association

clean: ## remove .venv, runs and the site
	rm -rf $(VENV) runs build/site
