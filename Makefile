# Needs git, make and Python 3.11 or newer, nothing else. Written for GNU make 3.81 (macOS) too.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made
HAS := $(VENV)/.has-
BRIDGE := $(BIN)/lstm-bridge

.DEFAULT_GOAL := help
.PHONY: help setup demo test sweep fuzz bench bench-io lint fixtures docs clean

help: ## Print this list
	@echo "lstm_bridge: make TARGET [PYTHON=/path/to/python3.11-or-newer]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' Makefile

setup: $(HAS)test $(HAS)lint $(HAS)docs ## Make .venv with the package and everything that works on it

demo: $(HAS)plot ## Convert, run and judge a torch and a Keras fixture, without torch or Keras
	$(BRIDGE) convert fixtures/torch_forecaster.pt out/torch_forecaster --assume batch_first=true --force
	$(BRIDGE) verify fixtures/torch_forecaster.pt out/torch_forecaster --assume batch_first=true --plot out/torch_forecaster.png
	$(BRIDGE) convert fixtures/keras_forecaster.keras out/keras_forecaster --force
	$(BRIDGE) verify fixtures/keras_forecaster.keras out/keras_forecaster --plot out/keras_forecaster.png
	@echo "Converted models and plots are in out/."

test: $(HAS)test ## Run the tests, against live torch, Keras and pytorch-forecasting
	$(BIN)/python -m pytest -n auto

sweep: $(HAS)test ## Run the tests with twenty times the generated examples (long)
	LSTM_BRIDGE_PROFILE=sweep $(BIN)/python -m pytest -n auto

FUZZ_SECONDS ?= 60
FUZZED := zip.pt legacy.pt one.safetensors stored.npz deflated.npz one.npy legacy.h5 numbered.weights.h5 one.keras

fuzz: $(HAS)test ## Fuzz every container's parser with atheris, FUZZ_SECONDS=60 each
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: atheris \
	  || echo "fuzz: atheris has no wheel for this Python and system" >&2
	@for name in $(FUZZED); do echo "== $$name"; \
	  $(BIN)/python tests/fuzz/fuzz_checkpoints.py $$name -max_total_time=$(FUZZ_SECONDS) || exit 1; done

bench: $(HAS)test ## Time our LSTM against its peers, and put the figures into the docs
	$(BRIDGE) bench --json docs/performance.json --plot docs/performance.svg
	$(BIN)/python docs/generate.py

bench-io: $(HAS)test ## Time the conversion of 2 GB files against cp, with peak memory
	$(BIN)/python -m lstm_bridge.bench.io

lint: $(HAS)lint ## Check style, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fixtures: $(HAS)test ## Train the small checkpoints in fixtures/ again
	$(BIN)/python fixtures/make.py

docs: $(HAS)docs ## Fill the generated tables and build the site strictly, into site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) out site build dist *.egg-info
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find lstm_bridge tests fixtures docs -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per extra: an install runs again only when pyproject.toml is newer than its stamp.
$(HAS)%: $(MADE) pyproject.toml
	@echo "Installing lstm-bridge[$*] into $(VENV); the first time may take minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

$(MADE):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$("$(PYTHON)" -c 'import sys; print("Python " + sys.version.split()[0])' 2>/dev/null || echo "no Python"); \
	  echo "lstm_bridge needs Python 3.11 or newer; '$(PYTHON)' is $$found. Try: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@
