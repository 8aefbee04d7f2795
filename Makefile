# Needs git, make and Python 3.11 or newer, nothing else. Written for GNU make 3.81 (macOS) too.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made
HAS := $(VENV)/.has-
BRIDGE := $(BIN)/lstm-bridge

.DEFAULT_GOAL := help
.PHONY: help setup demo test sweep fuzz bench bench-composed bench-io test-composed test-sanitize test-races test-arm lint fixtures docs clean

help: ## Print this list
	@echo "lstm_bridge: make TARGET [PYTHON=/path/to/python3.11-or-newer]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' Makefile

setup: $(HAS)test $(HAS)lint $(HAS)docs ## Make .venv with the package and everything that works on it

demo: $(HAS)plot ## Port and judge two whole models, one of torch and one of Keras, without either
	$(BRIDGE) convert fixtures/torch_forecaster_recorded.pt out/torch_forecaster --force
	$(BRIDGE) verify fixtures/torch_forecaster_recorded.pt out/torch_forecaster --plot out/torch_forecaster.png
	$(BRIDGE) convert fixtures/keras_classifier.keras out/keras_classifier --force
	$(BRIDGE) verify fixtures/keras_classifier.keras out/keras_classifier --plot out/keras_classifier.png
	@echo "Two whole models run on MLX now: lstm_bridge.load('out/torch_forecaster'), and out/keras_classifier."
	@echo "The plots of their errors are beside them."

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

bench-composed: $(HAS)test ## Time the same without the fused kernel (on Linux: BLAS=/path/to/libopenblas.so.0)
	$(BRIDGE) bench --composed $(if $(BLAS),--blas "$(BLAS)") --json docs/performance-composed.json
	$(BIN)/python docs/generate.py

bench-io: $(HAS)test ## Time the conversion of 2 GB files against cp, with peak memory
	$(BIN)/python -m lstm_bridge.bench.io

test-composed: $(HAS)test ## Run the tests of the cores and layers without the fused CPU kernel
	LSTM_BRIDGE_NATIVE=0 $(BIN)/python -m pytest -n auto tests/core tests/native tests/*_front_end

KERNEL_SOURCES := $(wildcard lstm_bridge/core/native/kernel*.cpp) \
  lstm_bridge/core/native/threads.cpp tests/native/kernel_test.cpp
KERNEL_HEADERS := $(wildcard lstm_bridge/core/native/*.hpp lstm_bridge/core/native/*.inc tests/native/*.hpp)
KERNEL_OBJECTS := $(patsubst %.cpp,%.o,$(notdir $(KERNEL_SOURCES)))
KERNEL_FLAGS := -std=c++20 -pthread -DLSTM_BRIDGE_POISON -Wall -Wextra -Werror -Ilstm_bridge/core/native
CXX ?= c++
ARM_CXX ?= aarch64-linux-gnu-g++
ARM_RUN ?= qemu-aarch64
vpath %.cpp lstm_bridge/core/native tests/native

test-sanitize test-races: CXX_THERE = @command -v $(CXX) >/dev/null || { echo "$@ needs a C++20 compiler: $(CXX) is not here" >&2; exit 1; }
test-sanitize: ## Test the CPU kernel alone under AddressSanitizer and UBSan (needs a C++20 compiler)
	$(CXX_THERE)
	@$(MAKE) -j 4 build/sanitized/kernel_test
	build/sanitized/kernel_test

test-races: ## Test the CPU kernel alone under ThreadSanitizer (needs a C++20 compiler)
	$(CXX_THERE)
	@$(MAKE) -j 4 build/raced/kernel_test
	build/raced/kernel_test

test-arm: ## Test the CPU kernel's NEON code under emulation (needs a cross compiler and qemu-user)
	@for tool in $(ARM_CXX) $(ARM_RUN); do command -v $$tool >/dev/null || { \
	  echo "test-arm needs $$tool, which is not here; Debian has g++-aarch64-linux-gnu and qemu-user" >&2; exit 1; }; done
	@$(MAKE) -j 4 build/arm/kernel_test
	$(ARM_RUN) build/arm/kernel_test

build/sanitized/kernel_test: SANITIZE := -fsanitize=address,undefined
build/raced/kernel_test: SANITIZE := -fsanitize=thread
build/sanitized/kernel_test build/raced/kernel_test: build/%/kernel_test: $(addprefix build/%/,$(KERNEL_OBJECTS))
	$(CXX) -pthread $(SANITIZE) $^ -o $@

define sanitized
@mkdir -p $(@D)
$(CXX) -O1 -g $(SANITIZE) -fno-sanitize-recover=all $(KERNEL_FLAGS) -c $< -o $@
endef
build/sanitized/%.o: %.cpp $(KERNEL_HEADERS)
	$(sanitized)
build/raced/%.o: %.cpp $(KERNEL_HEADERS)
	$(sanitized)

build/arm/kernel_test: $(addprefix build/arm/,$(KERNEL_OBJECTS))
	$(ARM_CXX) -static -pthread $^ -o $@

build/arm/%.o: %.cpp $(KERNEL_HEADERS)
	@mkdir -p $(@D)
	$(ARM_CXX) -O2 $(KERNEL_FLAGS) -c $< -o $@

lint: $(HAS)lint ## Check style, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fixtures: $(HAS)test ## Train the small checkpoints in fixtures/ again
	$(BIN)/python fixtures/make.py

docs: $(HAS)docs $(HAS)test ## Fill the generated tables and build the site strictly, into site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) out site build dist *.egg-info
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find lstm_bridge tests fixtures docs -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per extra: an install runs again only when pyproject.toml is newer than its stamp, and,
# for the tests, when a source of the kernel is.
$(HAS)%: $(MADE) pyproject.toml
	@echo "Installing lstm-bridge[$*] into $(VENV); the first time may take minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

$(HAS)test: setup.py $(wildcard lstm_bridge/core/native/*.cpp) $(filter lstm_bridge/%,$(KERNEL_HEADERS))

$(MADE):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$("$(PYTHON)" -c 'import sys; print("Python " + sys.version.split()[0])' 2>/dev/null || echo "no Python"); \
	  echo "lstm_bridge needs Python 3.11 or newer; '$(PYTHON)' is $$found. Try: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@
