# `make demo` and `make test` are all there is to set up: Python 3.11 or newer, git and make.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
# For one test: make test PYTEST="-k window". Without it two processes share them.
PYTEST ?=
# For `make train` and `make eval`: a network's id, where the pictures lie, and more options, as TRAIN="--minutes 60"
NET ?= fast-x2
DATA ?= ../shared/data
TRAIN ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format bench slow chaos corpus train eval clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-demo ## restore a small catalog of real photographs and draw a contact sheet
	$(RUN) pipelines.demo

test: $(VENV)/.installed-test ## run the test suite, doctests and the built wheel's smoke test included
	$(RUN) pytest $(or $(PYTEST),-n 2)

check: $(VENV)/.installed-dev ## all that a change must pass: format, lint, types, layers, tests
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports
	$(RUN) pytest $(or $(PYTEST),-n 2)

format: $(VENV)/.installed-dev ## lay out the code and sort the imports
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

bench: $(VENV)/.installed-test ## measure; write the tables of tests/benchmarks
	$(RUN) pytest -m bench -s tests/benchmarks $(PYTEST)

slow: $(VENV)/.installed-test ## the tests that take minutes
	$(RUN) pytest -m slow $(PYTEST)

chaos: $(VENV)/.installed-test ## kill workers, drivers and readers, and compare bytes
	$(RUN) pytest -m chaos tests $(PYTEST)

corpus: $(VENV)/.installed-test ## decode every odd or broken file of ../shared/data and write the table
	$(RUN) pytest -m slow tests/corpus $(PYTEST)

train: $(VENV)/.installed-train ## from pictures to a network and its card: make train NET=fast-x2
	OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) models.training $(NET) --data $(DATA)/train --eval $(DATA)/eval --out build/training $(TRAIN)

eval: $(VENV)/.installed-test ## score the networks beside bicubic and Lanczos; write the tables of models/README.md
	$(RUN) models.training.report --nets models/nets --data $(DATA)/eval --readme models/README.md

clean: ## remove the environment and everything made here
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find refine pipelines tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("refine needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# Installed once, and again when the dependencies or their versions change.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@
