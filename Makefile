# Every target makes what it needs, starting from python3 (3.10 or newer, with venv), make and a C++17 compiler.
#
#   make demo    what fdfast does, on a real MNIST image      make test        the tests
#   make bench   the measurements                             make lint        style, types, stub file
#   make build   compile into .venv, and nothing else         make sanitize    the kernels under ASan and UBSan
#   make wheel   a wheel in dist/ for other environments with this Python, which need no compiler
#   make fuzz    fuzzers of the kernels, the public calls and files, for an hour; make fuzz SECONDS=300 for less
#   make interrupts   300 interrupts at random moments of every public call; make interrupts COUNT=50 for less
#   make mixed   an hour of mixed use in four threads, with models that change; make mixed SECONDS=300 for less
#   make docs    the documentation, into build/site; notebooks are executed (Python 3.11 or newer)
#   make bench-peers   fdfast beside the tools that people use instead, and docs/benchmarks.md

PYTHON ?= python3
ifeq ($(origin CXX),default)
CXX := c++
endif
VENV := .venv
BIN := $(VENV)/bin

export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

SOURCES := pyproject.toml CMakeLists.txt $(wildcard cpp/*.cpp cpp/*.hpp src/*.cpp src/*.hpp)
# The editable install knows the package's files by name: a folder is newer once one is added or moved.
FOLDERS := $(sort $(dir $(wildcard fdfast/*.py fdfast/*/*.py fdfast/*/*/*.py)))
INSTALL := -m pip install --quiet
BUILD_TOOLS := cmake ninja pybind11 scikit-build-core

.DELETE_ON_ERROR:
.PHONY: demo test test-lower lint format bench bench-verdict bench-peers fuzz interrupts mixed build wheel sanitize clean

demo: build
	$(BIN)/fdfast demo

test: build
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

SECONDS ?= 3600
SEED ?= 0
COUNT ?= 300

fuzz: build
	$(BIN)/python tests/fuzz/run.py $(SECONDS) $(SEED)

interrupts: build
	$(BIN)/python tests/fuzz/interrupts.py inf $(SEED) $(COUNT)

mixed: build
	$(BIN)/python tests/fuzz/mixed.py $(SECONDS) $(SEED)

bench: build
	$(BIN)/python -m bench

bench-verdict: build
	$(BIN)/python -m bench.verdict

# The peers have an environment of their own: they are large, and nothing else needs them.
bench-peers: .venv-peers/.installed
	.venv-peers/bin/python -m bench.peers $(PEERS_ARGS)

# One that cannot be installed must not keep the others out. What fdfast is tested with stays as it is.
PEERS := .venv-peers/bin/python $(INSTALL) --constraint requirements/dev.txt

.venv-peers/.installed: requirements/dev.txt requirements/peers.txt $(SOURCES) $(FOLDERS)
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python $(INSTALL) --constraint requirements/dev.txt $(BUILD_TOOLS)
	@# Downloads and compilation beside each other.
	CXX=$(CXX) .venv-peers/bin/python $(INSTALL) --no-build-isolation --no-deps --editable . & \
		.venv-peers/bin/python $(INSTALL) -r requirements/dev.txt && { $(PEERS) -r requirements/peers.txt || \
		for one in $$(grep -o '^[^# ]*' requirements/peers.txt); do \
			$(PEERS) $$one || echo "$$one cannot be installed: it is left out"; done; }; \
		installed=$$?; wait $$! && exit $$installed
	@touch $@

.PHONY: docs

# The notebooks run fdfast, so the documentation's packages join the environment that it is built in.
# CODESPELL_ARGS=-w mends what it finds.
docs: build $(VENV)/.docs
	$(BIN)/codespell $(CODESPELL_ARGS) README.md CHANGELOG.md CONTRIBUTING.md docs fdfast bench tests
	PATH="$(CURDIR)/$(BIN):$$PATH" TF_CPP_MIN_LOG_LEVEL=3 NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open build/site/index.html. To search in it: $(PYTHON) -m http.server -d build/site"

$(VENV)/.docs: requirements/docs.txt $(VENV)/.dependencies
	$(BIN)/python $(INSTALL) --constraint requirements/dev.txt -r requirements/docs.txt
	@touch $@

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(wildcard cpp/*.[ch]pp src/*.[ch]pp tests/cpp/*.[ch]pp)
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest fdfast._core

format: build
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard cpp/*.[ch]pp src/*.[ch]pp tests/cpp/*.[ch]pp)

# The editable install copies the compiled module into the environment, so it is made anew when a source changes.
# The stamp is as old as the start of the build: a source edited meanwhile is newer.
build: $(VENV)/.installed

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES) $(FOLDERS)
	@command -v $(CXX) >/dev/null || { echo "No C++ compiler '$(CXX)': install g++ or clang, or name one, make CXX=..."; exit 1; }
	@touch $@.begun
	CXX=$(CXX) $(BIN)/python $(INSTALL) --no-build-isolation --no-deps --editable .
	@mv $@.begun $@

$(VENV)/.dependencies: requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "'$(PYTHON)' is no Python 3.10 or newer: install one, or name one, make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "'$(PYTHON)' lacks venv: install it (Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -r requirements/dev.txt
	@touch $@

# auditwheel names the oldest Linux that the wheel runs on, and refuses libraries that only this machine has.
wheel: $(VENV)/.dependencies
	$(BIN)/python $(INSTALL) -r requirements/wheel.txt
	rm -rf build/wheel
	CXX=$(CXX) $(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheel .
	@mkdir -p dist
	if test "$$(uname)" = Linux; then \
		PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl; \
	else cp build/wheel/*.whl dist; fi
	@ls dist/*.whl

# The oldest releases that pyproject.toml admits. They exist for Python 3.10 to 3.12.
test-lower: .venv-lower/.installed
	.venv-lower/bin/python -m pytest $(PYTEST_ARGS)

.venv-lower/.installed: requirements/lower.txt $(SOURCES)
	$(PYTHON) -m venv .venv-lower
	.venv-lower/bin/python $(INSTALL) --only-binary :all: -r requirements/lower.txt
	.venv-lower/bin/python $(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

# No Python in it: the sanitizers see the kernels alone.
sanitize: build/sanitize/kernels
	build/sanitize/kernels

build/sanitize/kernels: $(wildcard cpp/*.cpp cpp/*.hpp tests/cpp/*.cpp tests/cpp/*.hpp) Makefile
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -O1 -g1 -fno-omit-frame-pointer -ffp-contract=off -Wall -Wextra -Werror -Wno-psabi -pthread \
		-fsanitize=address,undefined,float-cast-overflow,float-divide-by-zero -fno-sanitize-recover=all \
		-Icpp $(filter %.cpp,$^) -o $@

clean:
	rm -rf $(VENV) .venv-lower .venv-peers build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
