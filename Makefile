# Each command sets up what it needs on a fresh machine, in .venv, then does its job and prints what it runs.
PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
PINS := pyproject.toml constraints.txt setup.py
KERNEL := $(wildcard src/peekserve/kernel/*.py)

.PHONY: demo test check audit bench build format clean
.DEFAULT_GOAL := test

demo: build                       ## the whole thing in a few minutes: prepare, profile, serve, compare
	.venv/bin/peekserve demo $(ARGS)

test: .venv/.dev build            ## all tests; ARGS="-k name" for some
	HYPOTHESIS_PROFILE=ci $(PY) -m pytest -n 2 $(ARGS)

check: .venv/.dev build           ## ruff, strict mypy, and what is known against the dependencies
	$(PY) -m ruff check
	$(PY) -m mypy
	$(PY) -m tests.audit || test $$? -eq 3    # without a network it says that it could not look, and goes on

audit: .venv/.dev                 ## as check does, but fails, with 3, where the advisories cannot be had
	$(PY) -m tests.audit

bench: .venv/.dev build           ## speed and memory, printed; needs a quiet machine
	set -e; for script in bench/[!_]*.py; do echo "$$script"; $(PY) $$script; done

build: .venv/.kernel              ## the compiled kernel, whenever its source changed

format: .venv/.dev
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

.venv/.base: constraints.txt      # the kernel is built with these two in place, not in an environment of its own
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(INSTALL) --upgrade pip setuptools Cython
	touch $@

.venv/.demo: .venv/.base $(PINS)
	$(INSTALL) --no-build-isolation --editable '.[demo,grpc]'
	touch $@

# torch only from a wheel that lies on this machine's disk (pip's find-links): from an index it may bring gigabytes of CUDA.
.venv/.dev: .venv/.demo
	$(INSTALL) --group dev
	$(INSTALL) --no-index --no-deps torch 2>/dev/null \
		&& $(INSTALL) --no-build-isolation --editable '.[demo,grpc,train]' \
		|| echo "no torch wheel on this disk: tests of supernets and of training are skipped"
	touch $@

.venv/.kernel: .venv/.demo $(KERNEL)
	PEEKSERVE_KERNEL=compiled $(PY) -c "import peekserve.kernel" 2>/dev/null \
		|| $(PY) setup.py --quiet build_ext --inplace
	touch $@

clean:                            ## what the build made; .venv stays
	rm -rf build dist src/*.egg-info src/peekserve/kernel/_compiled*.so .venv/.demo .venv/.kernel
