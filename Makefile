# `make` alone lists what there is to do. Works with GNU make 3.81 and later, on Linux and macOS.

PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/.installed
DEMO := runs/demo
JOBS ?= 2
SCALE ?= laptop
BENCHMARK ?= $(BENCHMARKS)

.DEFAULT_GOAL := help
.PHONY: help install demo notebooks reproduce test test-browser lab dashboard bench doctor clean broken

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## make .venv and install everything into it (the other targets do so by themselves)
	@echo "Installed in $(VENV)."

demo: $(STAMP) ## run the first notebook without a browser (more: DEMO_ARGS="...")
	$(BIN)/python -m qrkd_lab notebook notebooks/00_quickstart.ipynb --out $(DEMO) $(DEMO_ARGS)
	@echo
	@cat $(DEMO)/summary.md
	@echo
	@echo "The executed notebook: $(DEMO)/00_quickstart.ipynb"
	@echo "The table above:       $(DEMO)/summary.md"
	@find $(DEMO) -name '*.png' | sort | sed 's/^/A figure:              /'

notebooks: $(STAMP) ## run all notebooks at laptop scale and write the outputs back into them
	$(BIN)/python -m qrkd_lab notebook notebooks/*.ipynb --in-place --jobs $(JOBS)

# One word in SEEDS says how many, several say which.
reproduce: $(STAMP) ## run the study and write its report (BENCHMARK="mnist ptb" ARMS="scratch kd rkd qrkd" SEEDS=5 SCALE=laptop RETRY=1 SCHEDULER=tcp://...)
	$(BIN)/python -m qrkd_lab reproduce $(BENCHMARK) --scale $(SCALE) --jobs $(JOBS) \
	    $(if $(SEEDS),--seed$(if $(word 2,$(SEEDS)),,s) $(SEEDS)) $(if $(ARMS),--arms $(ARMS)) \
	    $(if $(filter-out 0,$(RETRY)),--retry) \
	    $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(REPRODUCE_ARGS)

# One thread a process: threads of several that wait for each other's cores take up to fifty times as long.
test: $(STAMP) ## run the tests, JOBS files at a time (more: PYTEST_ARGS="-k losses")
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

# Whether there is a browser is asked first, of any Python that is at hand: nothing is installed in vain.
test-browser: ## run the tests in a real Chromium or Chrome, JOBS files at a time (more: PYTEST_ARGS)
	@$(firstword $(wildcard $(BIN)/python) $(PYTHON)) tests/browser/chromium.py
	@$(MAKE) --no-print-directory $(VENV)/.installed-browser $(VENV)/.installed-dashboard
	$(BIN)/python -m pytest tests/browser -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

lab: $(STAMP) ## open the notebooks in JupyterLab, for this machine only (more: LAB_ARGS="--no-browser")
	cd notebooks && PATH="$(BIN):$$PATH" $(BIN)/python -m jupyterlab --ServerApp.ip=127.0.0.1 $(LAB_ARGS)

dashboard: $(VENV)/.installed-dashboard ## open the kernel explorer as a page, for this machine only (more: DASHBOARD_ARGS)
	cd notebooks && PATH="$(BIN):$$PATH" $(BIN)/python -m voila explore_kernels.ipynb \
	    --Voila.ip=127.0.0.1 --Voila.auto_token=True $(DASHBOARD_ARGS)

bench: $(STAMP) ## measure the times that the documentation names
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

doctor: $(STAMP) ## say what is wrong with this installation, and what to do
	@$(BIN)/python -m qrkd_lab doctor

clean: ## remove .venv, caches and build products; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find qrkd_lab tests notebooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# pip's own words go to a file; where it fails, their end is shown.
define pip_install
$(BIN)/python -m pip install --disable-pip-version-check -e '.[$(1)]' >$(VENV)/install.log 2>&1 || { \
    tail -n 25 $(VENV)/install.log; \
    echo; echo "The installation failed. The whole log: $(VENV)/install.log"; exit 1; }
endef

# A new environment carries the file .unfinished until its first install is through, so that one
# that was cut off is made anew; so is one whose Python has gone (an upgrade of the system's Python).
# A changed pyproject.toml installs again, into the same environment. What make did not make itself, it
# does not remove.
$(STAMP): pyproject.toml $(shell test -x $(BIN)/python || echo broken)
	@if [ -f $(VENV)/.unfinished ]; then \
	    echo "The last installation did not finish: making $(VENV) anew."; rm -rf $(VENV); \
	elif [ -d $(VENV) ] && ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    [ -f $(STAMP) ] || { \
	        echo "$(VENV) has no working Python with pip. Remove it (rm -rf $(VENV)) and try again."; exit 1; }; \
	    echo "The Python of $(VENV) is gone: making it anew."; rm -rf $(VENV); \
	fi
	@if [ ! -d $(VENV) ]; then \
	    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	        echo "Python 3.11 or later is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1)"; \
	        echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }; \
	    mkdir -p $(VENV) && touch $(VENV)/.unfinished && $(PYTHON) -m venv $(VENV); \
	fi
	@echo "Installing into $(VENV): a few minutes, and about 6.5 GB on Linux, where torch's default build"
	@echo "brings the CUDA libraries; much less on macOS. To watch: tail -f $(VENV)/install.log"
	@$(call pip_install,test)
	@rm -f $(VENV)/.unfinished
	@touch $(STAMP)

# What only some targets need comes when one of them is first called: the extras of pyproject.toml.
$(VENV)/.installed-%: $(STAMP)
	@echo "Installing what $* needs into $(VENV). To watch: tail -f $(VENV)/install.log"
	@$(call pip_install,$*)
	@touch $@
