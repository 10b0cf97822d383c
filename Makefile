# `make demo` runs the main job, `make test` all tests; both do their whole set-up on a machine with Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPILE := pip compile pyproject.toml --all-extras --group dev --generate-hashes --universal --python-version 3.11 --no-header -q

.DEFAULT_GOAL := help
.PHONY: demo test coverage up lint lock lock-check bench browser servers format help

demo: $(READY)  ## Turn a real corpus into embeddings, diagrams, routing tables and a placement (SOURCE=dir for your own)
	@$(BIN)/python -m aura_assets.demo $(if $(SOURCE),--source "$(SOURCE)") $(if $(NAME),--name "$(NAME)") $(if $(DATA),--data "$(DATA)")

# Two workers with one thread each: more threads than cores wait for each other, and each worker holds a torch of its own.
test: $(READY) browser servers  ## Run all tests (ARGS="-k name" for some)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal $(ARGS)

coverage:  ## Run all tests, and say which lines they do not reach
	@$(MAKE) --no-print-directory test ARGS="--cov --cov-report=term $(ARGS)"

up: $(READY)  ## Start the development stack on loopback: store owner, Dagster, MLflow, dashboard
	@$(BIN)/aura up

lint: $(READY) lock-check  ## Style, types, import boundaries, lock
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY)  ## Apply the style
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: $(READY)  ## Make requirements.lock from pyproject.toml (UPGRADE=1 for newer versions)
	@$(BIN)/uv $(COMPILE) $(if $(UPGRADE),--upgrade) -o requirements.lock

lock-check: $(READY)
	@cp requirements.lock $(VENV)/checked.lock
	@$(BIN)/uv $(COMPILE) -o $(VENV)/checked.lock
	@cmp -s requirements.lock $(VENV)/checked.lock || \
	  { echo "requirements.lock does not fit pyproject.toml: run 'make lock' and commit it"; exit 1; }

bench: $(READY)  ## Run the benchmarks (DATA=dir for those that want more data)
	@for file in benchmarks/*.py; do $(BIN)/python $$file $(if $(DATA),--data "$(DATA)") || exit 1; done

browser:
	@deploy/chromium.sh

servers: $(READY)
	@deploy/servers.sh

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo "AURA needs Python 3.11 or 3.12, and $(PYTHON) is another: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV) (several GB the first time) ..."
	@awk '/^uv==/{p=1} p{print} p&&!/\\$$/{exit}' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.lock
	@$(BIN)/uv pip sync -q -p $(VENV) --require-hashes requirements.lock
	@$(BIN)/uv pip install -q -p $(VENV) --no-deps --no-build-isolation -e .
	@touch $(READY)

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'
