# Needs GNU make and Python 3.11 or newer; the rest is installed into .venv.

PYTHON ?= python3
# Another place for another Python: make VENV=.venv-3.11 PYTHON=python3.11 test
VENV := .venv
RUN := $(VENV)/bin/python -m

# Names the interpreter and this directory: .venv is of no use to any other.
# Empty where PYTHON is missing or too old.
KEY := $(shell $(PYTHON) -c 'import os, sys, zlib; \
	place = repr((sys.version, sys.base_prefix, os.getcwd())).encode(); \
	sys.version_info >= (3, 11) and print("%08x" % zlib.crc32(place))' 2>/dev/null)

.PHONY: help mnist test check format docs bench clean
.NOTPARALLEL:

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

mnist: ready-examples ## train the Flax MNIST example; ARGS="--help" lists its options
	$(VENV)/bin/python examples/01_mnist.py $(ARGS)

test: ready-test ## run the tests; ARGS="-k adam" selects
	$(RUN) pytest -n logical --maxprocesses 8 --dist worksteal $(ARGS)

check: ready-dev ## format, lint, types and import contracts
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) basedpyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/lint-imports

format: ready-dev ## format the code and repair what ruff can
	$(RUN) ruff check --fix-only
	$(RUN) ruff format

docs: ready-docs ## build the site in docs/_build/html
	$(RUN) sphinx -q -W --keep-going -b html docs docs/_build/html

bench: ready-bench ## run the benchmarks, e.g. ARGS="mnist"
	$(RUN) adaptax.bench $(ARGS)

clean: ## remove .venv and whatever was built
	rm -rf $(VENV) .venv-* build dist docs/_build docs/api docs/gallery
	rm -rf .hypothesis .pytest_cache .ruff_cache .import_linter_cache

# One make at a time installs, where there is flock.
LOCK := $(shell command -v flock >/dev/null && echo flock Makefile)

ready-%:
	@test -n "$(KEY)" || { echo 'adaptax needs Python 3.11 or newer, but "$(PYTHON)" is:' >&2; \
	  $(PYTHON) --version >&2; echo 'Name another: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(LOCK) sh -c 'test -x $(VENV)/bin/python || rm -rf $(VENV)'
	@$(LOCK) $(MAKE) --no-print-directory -s $(VENV)/$(KEY)-$*

# Without the file KEY, .venv is made anew. It is away while pip runs, so that an
# installation cut short is not trusted.
$(VENV)/$(KEY)-%: pyproject.toml $(VENV)/$(KEY)
	echo "Installing adaptax[$*] into $(VENV) ..."
	mv $(VENV)/$(KEY) $(VENV)/installing
	$(RUN) pip install --quiet --disable-pip-version-check -e '.[$*]'
	mv $(VENV)/installing $(VENV)/$(KEY)
	touch $@

$(VENV)/$(KEY):
	$(PYTHON) -m venv --clear $(VENV)
	touch $@
