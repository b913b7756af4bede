# Dormouse. `make demo` and `make test` set up all they need; nothing else has to be run before them.
PYTHON ?= python3
DATA ?= data
PORT ?= 7860
BASE := .venv/.installed
TEST := .venv-test/.installed

# A criu that `make criu` unpacked here; without it the engine takes the one on PATH, or another way to wake up.
export DORMOUSE_CRIU ?= $(wildcard $(CURDIR)/.criu/criu)

.PHONY: help install demo serve criu test check bench samples clean platform
.DEFAULT_GOAL := help

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(BASE) ## open the search page with the built-in CPU embedder (PORT=, DATA=)
	.venv/bin/python -m ui.app --port $(PORT) --data "$(DATA)"

serve: $(BASE) ## only the engine, without a page, on port 8000 (DATA=)
	.venv/bin/python -m serving --data "$(DATA)"

criu: $(BASE) ## unpack a criu into .criu/ (root on Debian; elsewhere install the package criu, 4.1 or newer)
	.venv/bin/python -m tests.criu

install: $(BASE) ## make .venv: the page, the worker, the built-in embedder; no torch

test: $(TEST) ## run all tests, browser included
	.venv-test/bin/python -m tests.chromium
	.venv-test/bin/python -m tests.criu
	.venv-test/bin/python -m pytest

check: $(TEST) ## ruff and mypy --strict
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

bench: $(TEST) ## measure quality, speed and sleeping workers, write assets/runs/
	.venv-test/bin/python -m bench quality
	.venv-test/bin/python -m bench ablation
	.venv-test/bin/python -m bench speed
	.venv-test/bin/python -m bench snapshots

samples: $(TEST) ## draw assets/samples again (needs fonts-noto-core, fonts-noto-cjk, fonts-dejavu)
	.venv-test/bin/python -m assets.sample_maker

clean: ## remove what was installed here; collections in data/ stay
	rm -rf .venv .venv-test .criu .mypy_cache .ruff_cache .pytest_cache *.egg-info

platform:
	@case "$$(uname -s)" in Linux|Darwin) ;; *) \
	  echo "Dormouse runs on Linux and macOS. On Windows, use WSL 2: wsl --install, then run make there."; exit 1;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Dormouse needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv module is missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

.venv/.installed: pyproject.toml | platform
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv-test/.installed: pyproject.toml | platform
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@
