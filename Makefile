# Two commands: `make up` runs Quantrac with its demonstration, `make test` tests everything.
# `make dev` installs what developers need (pytest, ruff, mypy) into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= .data
# Most tests wait more than they compute; each process has a database and a broker of its own. Who has nothing
# left takes from the others, so that no long file runs alone at the end.
PARALLEL := -n 4 --dist worksteal
# Compiled modules are kept, also where the environment says otherwise: a test run starts hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: up dev test test-chaos test-timescaledb check bench lock clean

up: $(VENV)/installed
	$(BIN)/quantrac up --demo --data $(DATA)

dev: $(VENV)/installed-dev

test: $(VENV)/installed-dev
	deploy/test-requirements.sh
	$(MAKE) check
	$(BIN)/pytest $(PARALLEL)

# Breaks broker, database and ingest in every way docs/architecture.md lists: two to three minutes on 2 cores.
test-chaos: $(VENV)/installed-dev
	$(BIN)/pytest -n 3 --dist load -m chaos tests/chaos

# Whatever uses a database, once more on a TimescaleDB (Apache edition) of its own; needs a Debian.
test-timescaledb: $(VENV)/installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/tools/with-timescaledb.sh $(BIN)/pytest $(PARALLEL) -m "database and not chaos"

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# About three minutes on an idle machine; docs/benchmarks.md says what it measures and takes the tables.
bench: $(VENV)/installed-dev
	$(BIN)/python bench/ingest.py --markdown docs/benchmarks.md

$(VENV)/bin/pip:
	deploy/make-venv.sh $(PYTHON) $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/installed-dev: requirements-dev.lock pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@ $(VENV)/installed

# Renews both lock files for every supported Python; needs uv.
lock:
	uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements.lock
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
