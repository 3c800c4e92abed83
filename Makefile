# Every target sets up .venv by itself when it is missing or older than what it is made from.
# PYTHON chooses the interpreter: 3.11 or 3.12, what the Kaggle image's versions install on.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
NEWEST := .venv-newest
RUN_NEWEST := $(NEWEST)/bin/python
NEWEST_TESTS := tests/inputs tests/models tests/inference tests/kernel

.PHONY: help demo drill experiments-small test test-all test-newest check bench clean
help:
	@echo "make demo    simulate a competition, train, blend, build the kernel, run it offline, publish it to a stand-in (7 minutes)"
	@echo "make drill   plant faults in the demo's hidden test: what becomes of each (a minute after the demo)"
	@echo "make experiments-small   the seed's ideas side by side on a simulated competition (half an hour on two cores)"
	@echo "make test    the tests that a change needs (three minutes on two cores)"
	@echo "make test-all   these, the slow ones (kills, long chains, every config, the drill), and the newest versions of all libraries"
	@echo "make check   lint, format, types, and whether the committed kernel is what the sources build"
	@echo "make bench   how fast the kit is beside the public notebooks' way: a table and bench.json (4 minutes)"
	@echo "make clean   remove demo/, experiments-small/ and caches"

$(VENV)/.ready: setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 (with venv) found: the Kaggle image's versions install on these."; \
	  echo "Install one, or: pip install uv && uv python install 3.12 && make PYTHON=\$$(uv python find 3.12)"; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet uv
	$(VENV)/bin/uv pip install --quiet --python $(RUN) --constraints constraints.txt --editable ".[dev,kaggle]"
	@touch $@

demo: $(VENV)/.ready
	$(RUN) kernels/demo/run_demo.py

drill: $(VENV)/.ready
	test -f demo/results.json || $(MAKE) demo
	$(RUN) kernels/drill.py

experiments-small: $(VENV)/.ready
	$(RUN) kernels/demo/small_experiments.py

test: $(VENV)/.ready
	$(RUN) -m pytest -n 2 -m "not slow"

test-all: test test-newest
	$(RUN) -m pytest -n 2 -m slow

test-newest: $(VENV)/.ready
	test -x $(RUN_NEWEST) || $(PYTHON) -m venv $(NEWEST)
	$(RUN_NEWEST) -m pip install --quiet uv
	$(NEWEST)/bin/uv pip install --quiet --upgrade --python $(RUN_NEWEST) --editable ".[dev,kaggle]"
	$(RUN_NEWEST) -m pytest -n 2 -m "not slow" $(NEWEST_TESTS)
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE $(RUN_NEWEST) -m pytest -n 2 -m "not slow" tests/inputs  # an older CPU

check: $(VENV)/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) kernels/build.py --check

bench: $(VENV)/.ready
	$(RUN) tests/bench/bench.py

clean:
	rm -rf demo experiments-small .pytest_cache .mypy_cache .ruff_cache
