# Two commands do everything on a fresh Debian or Ubuntu machine with Python 3.10 or newer:
#   make demo    set up, then build the example for a Raspberry Pi 4 and prove it under emulation
#   make test    set up, then run every check and test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What the demo's Raspberry Pi needs; the tests need cross compiler and emulator of microcontrollers too.
PI_PROGRAMS := qemu-aarch64 count-plugin arm64-root arm64-onnxruntime arm64-ai_edge_litert arm64-tflite_runtime \
	host-tflite_runtime

.PHONY: demo test test-all clean

demo: $(VENV)/.demo
	$(BIN)/python tools/get-programs $(PI_PROGRAMS)
	cd examples/watch && ../../$(BIN)/leanedge build --target rpi4

test: $(VENV)/.dev
	$(BIN)/python tools/get-programs
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/check

# Everything of `make test`, then the slow proofs: every workload built and validated, and the benchmarks.
test-all: test
	$(BIN)/python -m benchmarks.workloads
	$(BIN)/python -m benchmarks.builds

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "LeanEdge needs Python 3.10 or newer; set PYTHON=..."; exit 5; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 5; }
	$(PYTHON) -m venv $(VENV)

# The demo needs no torch; the tests do.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tflite]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) dist build examples/*/dist
