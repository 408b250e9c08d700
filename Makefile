# `make run` and `make test` set everything up by themselves; the rest is for who works on Deputy.
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
# Compiled code is kept, whatever the environment says: a node is several processes, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help run test check demo bench soak pictures lock clean format

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## Start Deputy on http://127.0.0.1:8000 (PORT= changes it) with everything it needs
	@DEPUTY_PORT=$(PORT) DEPUTY_DEMO=$${DEPUTY_DEMO-1} exec $(BIN)/deputy serve

test: $(VENV)/dev.stamp ## Run the tests (about a quarter of an hour on two cores; REQUIRE_ALL=1: anything left out fails)
	$(BIN)/python -m pytest -n $${TEST_WORKERS:-3} --dist loadfile --no-loadscope-reorder $(TESTS)

check: $(VENV)/dev.stamp ## Lint, types, layers, migrations in step
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy app
	$(BIN)/lint-imports
	DEPUTY_VAR_DIR=$$(mktemp -d) $(BIN)/python -m migrations

demo: $(VENV)/dev.stamp ## Watch an assistant act for Alice, step by step (AUTO=1: without your hands)
	$(BIN)/python examples/demo.py

bench: $(VENV)/dev.stamp ## Measure against node oidc-provider and a plain Authlib server, in the same run
	$(BIN)/python bench/run.py

soak: $(VENV)/dev.stamp ## The long tests
	$(BIN)/python -m pytest -m soak -p no:randomly $(TESTS)

pictures: $(VENV)/dev.stamp ## Take the pictures that the documents show (LOOK=directory: of every page, to look at)
	$(BIN)/python -m tests.pictures $(LOOK)
	$(BIN)/python -m tests.admin.pictures $(if $(LOOK),--all --to $(LOOK))

format: $(VENV)/dev.stamp ## Format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: ## Lock the dependencies again (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url \
	  --extra embedded --extra postgres -o requirements.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url \
	  --extra embedded --extra postgres --extra demo --extra dev -c requirements.lock -o requirements-dev.lock

clean: ## Remove what can be made again; var/ and keys/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Deputy needs Python 3.11 or newer; name one with PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -c 'import pathlib, sysconfig; p = pathlib.Path(sysconfig.get_path("purelib")); (p / "deputy.pth").write_text(str(pathlib.Path.cwd()) + "\n")'
	@printf '#!%s\nimport sys\nfrom app.__main__ import main\nsys.exit(main())\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/deputy && chmod +x $(BIN)/deputy
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
