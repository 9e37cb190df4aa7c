# `make demo` or `make test` is all a fresh clone needs: both build .venv first.

PYTHON  ?= python3
# pytest workers; each computes on one thread, so that they do not fight for cores
WORKERS ?= 2
# more arguments for pytest: make test ARGS="-k units -x"
ARGS    ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# another environment, with the libraries that models come from
ZOO   := .venv-zoo

SCRIPTS := $(sort $(filter-out benchmarks/_% benchmarks/coverage.py,$(wildcard benchmarks/*.py)))
TYPED   := $(wildcard src tests benchmarks reproductions)
# docs/_generate/NAME.py prints the page docs/NAME.md
PAGES   := $(patsubst docs/_generate/%.py,%,$(wildcard docs/_generate/[a-z]*.py))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help venv demo data test check format lint types imports fresh pages fix bench zoo reproductions docs clean

help: ## list the targets
	@echo "make TARGET [PYTHON=python3.11] [WORKERS=2] [ARGS=\"-k units\"]"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(STAMP) ## build .venv with everything pinned in constraints.txt

# The stamp is written last and removed first. Without it .venv is built from nothing, so an
# interrupted installation is never built upon; with it, but older than the files below,
# the packages are brought up to date in place.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "secateur needs Python 3.11 or newer; $(PYTHON) is not. Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@[ -e $@ ] || { echo "Creating $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@rm -f $@
	@echo "Installing secateur and its tools into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install -qq -c constraints.txt hatchling editables
	@$(BIN)/python -m pip install -qq -c constraints.txt --no-build-isolation -e '.[dev,docs,language]'
	@touch $@

demo: $(STAMP) ## prune a small network and write runs/demo
	$(BIN)/secateur demo --out runs/demo --resume

data: $(STAMP) ## fetch the data sets and trained models that some tests use (230 MB)
	$(BIN)/secateur data --all

test: export OMP_NUM_THREADS := 1
test: $(STAMP) ## tests, doctests, and the Python blocks of the Markdown pages
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: format lint types imports fresh docs test ## everything CI does

format: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy $(TYPED)

imports: $(STAMP)
	$(BIN)/lint-imports

fresh: $(STAMP)
	@for page in $(PAGES); do \
	    $(BIN)/python docs/_generate/$$page.py | diff -u docs/$$page.md - || \
	        { echo "docs/$$page.md is out of date: run 'make pages'"; exit 1; }; \
	done

pages: $(STAMP) ## write the generated pages and pictures of docs/ again
	@$(BIN)/python docs/_generate/_pictures.py
	@for page in $(PAGES); do \
	    $(BIN)/python docs/_generate/$$page.py > docs/$$page.md.new && \
	        mv docs/$$page.md.new docs/$$page.md || exit 1; \
	done

fix: $(STAMP) ## format, and repair what ruff can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format --quiet .

bench: $(STAMP) ## run every script of benchmarks/
	@for script in $(SCRIPTS); do \
	    echo "== $$script"; $(BIN)/python $$script || exit 1; \
	done

zoo: $(ZOO)/.installed ## prune 112 models of other libraries, beside Torch-Pruning (hours)
	$(ZOO)/bin/python benchmarks/coverage.py $(ARGS)

$(ZOO)/.installed: pyproject.toml benchmarks/coverage.txt
	@[ -e $@ ] || { echo "Creating $(ZOO)"; $(PYTHON) -m venv --clear $(ZOO); }
	@rm -f $@
	@echo "Installing what models come from into $(ZOO) (6 GB)"
	@$(ZOO)/bin/python -m pip install -qq -r benchmarks/coverage.txt
	@$(ZOO)/bin/python -m pip install -qq -e .
	@touch $@

reproductions: $(STAMP) ## list the reproductions: target, measured, verdict, seeds, time
	@$(BIN)/python reproductions/_list.py

docs: $(STAMP) ## build docs/_build/html, warnings as errors
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

clean: ## remove caches and built files (.venv and runs/ stay)
	rm -rf build dist docs/_build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
