# Each target sets up what it needs in .venv, from nothing, and is quick the second time.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test lint docs

help:
	@echo "make demo   from a table to a model and predictions, on the data in examples/data"
	@echo "make test   lint, tests, the plugins' tests, docs: what has to pass before a commit"
	@echo "make lint   style and types only"
	@echo "make docs   the documentation, into docs/_build/html"

demo: .venv/installed
	sh examples/demo.sh

test: lint .venv/ready
	$(BIN)/python -m pytest
	@set -e; for project in plugins/*/pyproject.toml; do \
	  [ -e "$$project" ] || continue; \
	  folder=$$(dirname "$$project"); \
	  echo "== $$folder"; \
	  $(INSTALL) --editable "$$folder[test]"; \
	  $(BIN)/python -m pytest "$$folder"; \
	done
	$(MAKE) docs

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/ready
	$(BIN)/sphinx-build -E -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing autoreg into .venv, once; torch is large, this can take minutes"
	$(INSTALL) --editable .
	@touch $@

.venv/ready: .venv/installed
	@echo "installing the tools for tests and documentation, once"
	$(INSTALL) --editable '.[dev]'
	@touch $@
