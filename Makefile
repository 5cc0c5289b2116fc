# `make` alone lists what there is to do. Works with GNU make 3.81 and later, on Linux and macOS.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
SCALE ?= laptop

.DEFAULT_GOAL := help
.PHONY: help install demo notebooks reproduce study test test-browser lab dashboard slides site bench doctor clean
.PHONY: ready-chromium ready-test ready-browser ready-dashboard ready-site
.NOTPARALLEL: # one environment takes one installation at a time

# What each target reads. Another variable on the command line is refused, so that no typo passes unnoticed.
INSTALLS := PYTHON VENV TORCH_INDEX
READS_install := $(INSTALLS)
READS_demo := $(INSTALLS) SCALE JOBS SEEDS DEMO_ARGS
READS_notebooks := $(INSTALLS) JOBS
READS_reproduce := $(INSTALLS) BENCHMARK ARMS SEEDS SCALE JOBS SCHEDULER REPRODUCE_ARGS
READS_study := $(INSTALLS) STAGE BENCHMARK SCALE JOBS SCHEDULER STUDY_ARGS
READS_test := $(INSTALLS) JOBS PYTEST_ARGS
READS_test-browser := $(READS_test)
READS_lab := $(INSTALLS) LAB_ARGS
READS_dashboard := $(INSTALLS) DASHBOARD_ARGS
READS_slides := $(INSTALLS)
READS_site := $(INSTALLS) JOBS
READS_bench := $(INSTALLS) BENCH_ARGS
READS_doctor := $(INSTALLS)
reads := $(sort $(foreach goal,$(MAKECMDGOALS),$(READS_$(goal))))
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
unread := $(if $(MAKECMDGOALS),$(filter-out SHELL $(reads),$(given)))
$(if $(unread),$(error make $(MAKECMDGOALS) does not read $(unread). It reads: $(or $(reads),nothing)))

# A path may hold a space, a quote, a dollar. So it is taken as it was given, goes to the shell as a
# variable of the environment, and is quoted there; no recipe has a path written into it.
define newline


endef
home = $(subst $(newline),,$(subst $(newline)~/,$(value HOME)/,$(newline)$(1)))
absolute = $(if $(filter /%,$(firstword $(1))),$(1),$(CURDIR)/$(1))
override PYTHON := $(call home,$(value PYTHON))
override VENV := $(call absolute,$(call home,$(value VENV)))
export PYTHON VENV
python := "$$VENV/bin/python"

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: ready-test ## make .venv and install everything into it, as all targets do (TORCH_INDEX=<an index with torch's small CPU build>)
	@printf 'Installed in %s\n' "$$VENV"

# A parameter of the notebook, where it was given: the rest is as the notebook has it.
set = $(if $(filter-out undefined file,$(origin $(1))),--set $(2)=$($(1)))

demo: ready-test ## run the first notebook without a browser (SCALE=smoke JOBS=2 SEEDS=5; more: DEMO_ARGS="...")
	@demo=$$($(python) -c 'from qrkd_lab.files import runs_folder; print(runs_folder() / "demo")') && \
	$(python) -m qrkd_lab notebook notebooks/00_quickstart.ipynb --out "$$demo" \
	    $(call set,SCALE,scale) $(call set,JOBS,jobs) $(call set,SEEDS,seeds) $(DEMO_ARGS) && \
	echo && cat "$$demo/summary.md" && echo && \
	echo "The executed notebook: $$demo/00_quickstart.ipynb" && \
	echo "The table above:       $$demo/summary.md" && \
	find "$$demo" -name '*.png' | sort | sed 's/^/A figure:              /'

notebooks: ready-test ## run all notebooks at laptop scale and write the outputs back into them
	$(python) -m qrkd_lab notebook notebooks/*.ipynb --in-place --jobs $(JOBS)

# One word in SEEDS says how many, several say which.
reproduce: ready-test ## run the study and write its report (BENCHMARK="mnist ptb" ARMS="scratch kd rkd qrkd" SEEDS=5 SCALE=laptop SCHEDULER=tcp://...)
	$(python) -m qrkd_lab reproduce $(BENCHMARK) --scale $(SCALE) --jobs $(JOBS) \
	    $(if $(SEEDS),--seed$(if $(word 2,$(SEEDS)),,s) $(SEEDS)) $(if $(ARMS),--arms $(ARMS)) \
	    $(if $(SCHEDULER),--scheduler "$$SCHEDULER") $(REPRODUCE_ARGS)

study: ready-test ## train what results/PLAN.md says (STAGE="weights dose admission runs doses" BENCHMARK="mnist cifar10" SCALE=all-labels SCHEDULER=tcp://...)
	$(python) -m qrkd_lab study $(STAGE) --jobs $(JOBS) $(if $(BENCHMARK),--benchmarks $(BENCHMARK)) \
	    $(if $(filter-out undefined file,$(origin SCALE)),--scale $(SCALE)) \
	    $(if $(SCHEDULER),--scheduler "$$SCHEDULER") $(STUDY_ARGS)

# One thread a process: threads of several that wait for each other's cores take up to fifty times as long.
test: ready-test ## run the tests, JOBS files at a time (more: PYTEST_ARGS="-k losses")
	OMP_NUM_THREADS=1 $(python) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-browser: ready-chromium ready-browser ## run the tests in a real Chromium or Chrome, JOBS files at a time (more: PYTEST_ARGS)
	$(python) -m pytest tests/browser -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

lab: ready-test ## open the notebooks in JupyterLab, for this machine only (more: LAB_ARGS="--no-browser")
	cd notebooks && PATH="$$VENV/bin:$$PATH" $(python) -m jupyterlab --ServerApp.ip=127.0.0.1 $(LAB_ARGS)

dashboard: ready-dashboard ## open the kernel explorer as a page, for this machine only (more: DASHBOARD_ARGS)
	cd notebooks && PATH="$$VENV/bin:$$PATH" $(python) -m voila explore_kernels.ipynb \
	    --Voila.ip=127.0.0.1 --Voila.auto_token=True $(DASHBOARD_ARGS)

slides: ready-site ## write the slides of the two-hour class, one HTML file that needs no network
	@$(python) -m qrkd_lab.teaching.slides

# Sphinx begins with .doctrees: a folder without it is not ours.
site: ready-site ## build the course as web pages from the committed outputs (JOBS=2)
	@site=$$($(python) -c 'from qrkd_lab.files import runs_folder; print(runs_folder() / "site" / "html")') && \
	if [ -e "$$site" ] && [ ! -e "$$site/.doctrees" ]; then \
	    echo "$$site was not made by make site: move it."; exit 1; fi && \
	$(python) -m sphinx -q -W -j $(JOBS) -c qrkd_lab/teaching/site . "$$site" && \
	echo "The first page: $$site/index.html"

bench: ready-test ## measure the times that the documentation names
	$(python) -m tests.bench $(BENCH_ARGS)

doctor: ready-test ## say what is wrong with this installation, and what to do
	@$(python) -m qrkd_lab doctor

clean: ## remove .venv, caches and build products; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find qrkd_lab tests notebooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# pip's own words go to a file; where it fails, their end is shown. Of equal versions pip takes the one with
# a local part, so an index with torch 2.14.1+cpu wins over the default one with torch 2.14.1.
torch_index = $(if $(value TORCH_INDEX),--extra-index-url "$$TORCH_INDEX")
pip_install = $(python) -m pip install --disable-pip-version-check $(torch_index) $(2) -e '.[$(1)]' >"$$VENV/install.log" 2>&1
define failed
{ \
    tail -n 25 "$$VENV/install.log"; \
    echo; echo "The installation failed. The whole log: $$VENV/install.log"; exit 1; }
endef
# Whether the environment's qrkd_lab is that of this folder: a renamed one or another clone's is not.
ours = (here=$$PWD && cd / && $(python) -c 'import os, sys; from importlib.util import find_spec; \
    spec = find_spec("qrkd_lab"); package = spec and spec.origin and os.path.dirname(spec.origin); \
    sys.exit(not (package and os.path.samefile(os.path.dirname(package), sys.argv[1])))' "$$here")

# Make removes no environment, not even a broken one: something of yours may lie in it. A new one carries
# the file .unfinished until its first installation is through; one that was cut off goes on, over what
# pip left half-made. A changed pyproject.toml or another folder's package installs again, into the same one.
ready-test:
	@set -e; why=; how=; \
	if [ ! -e "$$VENV" ]; then \
	    "$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	        echo "Python 3.11 or later is needed; $$PYTHON is: $$("$$PYTHON" --version 2>&1 | head -n 1)"; \
	        echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }; \
	    mkdir -p "$$VENV" && touch "$$VENV/.unfinished"; why="A new environment."; \
	elif [ -f "$$VENV/.unfinished" ]; then \
	    why="The last installation did not finish: it goes on."; how=--ignore-installed; \
	fi; \
	$(python) -c '' 2>/dev/null || { \
	    [ -f "$$VENV/.unfinished" ] || { \
	        echo "$$VENV has no Python that runs. If it had one, the system's Python is gone or was replaced."; \
	        echo "make removes nothing by itself: remove or rename that folder, and try again."; exit 1; }; \
	    "$$PYTHON" -m venv "$$VENV"; }; \
	$(python) -m pip --version >/dev/null 2>&1 || $(python) -m ensurepip >"$$VENV/install.log" 2>&1 || \
	    uv pip install --python $(python) pip >>"$$VENV/install.log" 2>&1 || { \
	        cat "$$VENV/install.log"; echo; echo "$$VENV has no pip, and it cannot be added."; exit 1; }; \
	if [ -n "$$why" ]; then :; \
	elif [ ! -f "$$VENV/.installed" ]; then why="An environment without this kit."; \
	elif [ pyproject.toml -nt "$$VENV/.installed" ]; then why="pyproject.toml has changed."; \
	elif ! $(ours); then \
	    why="The environment holds the qrkd_lab of another folder: this one's takes its place."; \
	    how=--no-build-isolation; \
	else exit 0; fi; \
	echo "$$why"; \
	echo "Installing into $$VENV: a few minutes, and about 6.5 GB on Linux, where torch's default build"; \
	echo "brings the CUDA libraries (README says how to get the small CPU build, about 1 GB)."; \
	echo "To watch: tail -f '$$VENV/install.log'"; \
	$(call pip_install,test,$$how) || { [ "$$how" = --no-build-isolation ] && $(call pip_install,test); } || $(failed); \
	rm -f "$$VENV/.unfinished"; touch "$$VENV/.installed"

# What only some targets need comes when one of them is first called: the extras of pyproject.toml.
ready-browser ready-dashboard ready-site: ready-test
	@extra=$(@:ready-%=%); stamp=$$VENV/.installed-$$extra; \
	if [ -f "$$stamp" ] && [ ! "$$VENV/.installed" -nt "$$stamp" ]; then exit 0; fi; \
	echo "Installing what $$extra needs into $$VENV. To watch: tail -f '$$VENV/install.log'"; \
	$(call pip_install,$(@:ready-%=%)) || $(failed); \
	touch "$$stamp"

# Whether there is a browser is asked first, of any Python that is at hand: nothing is installed in vain.
ready-chromium:
	@if [ -x $(python) ]; then $(python) tests/browser/chromium.py; \
	else "$$PYTHON" tests/browser/chromium.py; fi
