# Each target sets up what it needs in .venv, from nothing, and is quick the second time.

PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
PLUGIN_MODULES := $(filter-out %.egg-info,$(wildcard $(addsuffix /autoreg_*,$(PLUGINS))))
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test lint docs

help:
	@echo "make demo   from a table to a model and predictions, on the data in examples/data"
	@echo "make test   lint, tests, the plugins' tests, docs: what has to pass before a commit"
	@echo "make lint   style and types only"
	@echo "make docs   the documentation, into docs/_build/html"

demo: .venv/installed
	sh examples/demo.sh

# a plugin's own tests see that plugin and no other
test: lint .venv/plugins
	$(BIN)/python -m pytest
	@set -e; for folder in $(PLUGINS); do \
	  echo "== $$folder"; \
	  AUTOREG_PLUGINS=$${folder#plugins/} $(BIN)/python -m pytest "$$folder"; \
	done
	$(MAKE) docs

lint: .venv/plugins
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(PLUGIN_MODULES),$(BIN)/mypy $(PLUGIN_MODULES))

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

.venv/plugins: .venv/ready $(addsuffix /pyproject.toml,$(PLUGINS))
	@echo "installing the plugins of this repository and what their tests need, once"
	$(if $(PLUGINS),$(INSTALL) $(foreach folder,$(PLUGINS),--editable '$(folder)[test]'))
	@touch $@
