# Every target sets up .venv by itself when it is missing or older than what it is made from.
# PYTHON chooses the interpreter: 3.11 or 3.12, what the Kaggle image's versions install on.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help demo test check clean
help:
	@echo "make demo    simulate a competition, train, blend, build the kernel, run it offline, score it (6 minutes)"
	@echo "make test    all tests"
	@echo "make check   lint, format, types, and whether the committed kernel is what the sources build"
	@echo "make clean   remove demo/ and caches"

$(VENV)/.ready: setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 (with venv) found: the Kaggle image's versions install on these."; \
	  echo "Install one, or: pip install uv && uv python install 3.12 && make PYTHON=\$$(uv python find 3.12)"; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet uv
	$(VENV)/bin/uv pip install --quiet --python $(RUN) --constraints constraints.txt --editable ".[dev,kaggle]"
	@touch $@

demo: $(VENV)/.ready
	$(RUN) kernels/demo.py

test: $(VENV)/.ready
	$(RUN) -m pytest -n 2

check: $(VENV)/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) kernels/build.py --check

clean:
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache
