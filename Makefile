# Hookcast's one entry point for people and CI. Each target works as the first command on a fresh machine
# with Python >= 3.11 and make.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv with the locked dependencies and the hookcast command (once)

$(STAMP): requirements/dev.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Hookcast needs Python >= 3.11; this is $$($(PYTHON) --version). Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

run: setup  ## start everything and watch a first event arrive as a webhook and over a WebSocket
	@exec $(BIN)/python -m hookcast_app.demo

test: setup lint  ## lint, types, layers, unit and integration tests, and the chart and a browser where there are such
	$(BIN)/python -m pytest -n 4 --dist worksteal --cov --cov-report=term -q
	@if command -v helm >/dev/null && command -v helm-unittest >/dev/null; then tests/chart/check; \
	else echo "make test: the chart was not tried, for that needs helm and helm-unittest (make chart)"; fi
	@$(BIN)/python -m tests.support.browser >/dev/null || \
	echo "make test: the clients were not tried in a browser, for that needs chromium (or HOOKCAST_TEST_BROWSER=PATH)"

lint: setup  ## ruff, mypy --strict and the layers, changing nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

chart: setup  ## check the chart: lint, helm-unittest, schemas, alerts, its README
	tests/chart/check

chart-docs:  ## write charts/hookcast/README.md from its values (needs helm-docs)
	helm-docs --chart-search-root charts --sort-values-order file --log-level warning

bench: setup  ## measure against references in the same run and write benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

e2e: setup  ## build the images, install on a kind cluster and try everything (HOOKCAST_E2E_REUSE=1: on KUBECONFIG's)
	$(BIN)/python -m pytest -q -rs --durations=20 tests/e2e

lock: setup  ## resolve requirements/*.txt again, with hashes
	@for extra in "app:--extra app" "operator:--extra operator" "dev:--all-extras --group dev" ; do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
	    $(UPGRADE) pyproject.toml $${extra#*:} -o requirements/$${extra%%:*}.txt ; done
	@echo uv | $(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock" $(UPGRADE) - -o requirements/uv.txt

.PHONY: help setup run test lint format chart chart-docs bench e2e lock
