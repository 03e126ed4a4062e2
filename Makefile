# What a person types. Needs nothing but Python 3.11 or newer; the first call makes .venv and fills it.
#   make demo                         the shop: train, embed, search
#   make demo TORCH_INDEX=URL    an index with CPU builds of PyTorch, 2 GB smaller

PYTHON ?= $(shell command -v python3.11 || command -v python3.13 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help demo test lint format bench chaos messages screenshots clean distclean browser
.DEFAULT_GOAL := help

help:
	@echo "make demo     the demo shop at http://127.0.0.1:8000 (PORT=… to change); Ctrl-C ends it"
	@echo "make test     all tests;  make test ARGS='-k search' for some"
	@echo "make lint     ruff, mypy, import-linter, missing migrations"
	@echo "make format   let ruff put the code in order"
	@echo "make bench    the figures that the README quotes"
	@echo "make chaos    hundreds of kills and restarts, and what they did: benchmarks/results/chaos.json"
	@echo "make screenshots  the pictures of the documents, from a demo that trains (minutes)"
	@echo "make messages collect the texts to translate, compile the translations (needs gettext)"
	@echo "make clean    remove the demo's data and every cache;  make distclean  the environment as well"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No python3 found: install Python 3.11 or newer."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing what the demo needs (PyTorch is large: some minutes the first time) …"
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing what the tests need (PyTorch is large: some minutes the first time) …"
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@exec $(BIN)/python -m shop.demo

# The browser journey drives a real Chromium. It is never skipped: where there is none, this says how to get it.
browser:
	@if command -v chromedriver >/dev/null && { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the browser tests …"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; \
	else \
		echo "The browser tests need Chromium and chromedriver: sudo apt-get install chromium chromium-driver"; \
		echo "(or run the others with: make test ARGS='-m \"not e2e\"' BROWSER=)"; exit 1; \
	fi

BROWSER ?= browser
# Each process has a PostgreSQL and a Redis of its own; JOBS=0 runs all in this one, for a debugger.
JOBS ?= 2
test: $(VENV)/.dev $(BROWSER)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(ARGS)

# An hour or so; ARGS='--seed 42 -k r03' repeats the schedule of one fault.
chaos: $(VENV)/.dev
	$(BIN)/python -m benchmarks.chaos $(ARGS)

screenshots: $(VENV)/.dev $(BROWSER)
	$(BIN)/python -m tests.e2e.screenshots

messages: $(VENV)/.dev
	@for app in visualsearch shop; do ( cd $$app && \
		../$(BIN)/django-admin makemessages --locale de --no-wrap --add-location file && \
		../$(BIN)/django-admin compilemessages --locale de ) || exit 1; done

clean:
	@! $(BIN)/python -c 'import sys; from shop.embedded import running; sys.exit(running() is None)' 2>/dev/null \
		|| { echo "The demo runs: end it with Ctrl-C first."; exit 1; }
	rm -rf .run var dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
