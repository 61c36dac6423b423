# LesionLens. `make` alone prints what there is.
#
# Every target works in a fresh clone: .venv is made from the pinned, hashed requirements/*.txt when it is missing or
# when they changed. What is installed is recorded in a stamp named after the checksum of what it was installed from.

SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin

# The first of these that is Python 3.11 or newer. `make PYTHON=/path/to/python3.12 run` names another one.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
endif

stamp = $(VENV)/.installed-$(1)-$(shell cat requirements/run.txt requirements/$(1).txt pyproject.toml | cksum | cut -d' ' -f1)
RUN := $(call stamp,run)
TEST := $(call stamp,test)
LINT := $(call stamp,lint)
AUDIT := $(call stamp,audit)
TRAINING := $(call stamp,training)
CONFORMANCE := $(call stamp,conformance)
# Locust replaces parts of the standard library in every process that imports it, and pytest would import it.
LOCUST_VENV := .venv-load
LOCUST := $(LOCUST_VENV)/.installed-$(shell cksum < requirements/load.txt | cut -d' ' -f1)

# What the product is compared with never comes near it.
BENCH_VENV := .venv-bench
BENCH := $(BENCH_VENV)/.installed-$(shell cksum < requirements/bench.txt | cut -d' ' -f1)

# install SET, MESSAGE: --no-deps because the files are complete, and pip then has nothing to look up.
define install
	@echo "Installing requirements/$(1).txt into $(VENV) ($(2); once)…"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/$(1).txt
	@rm -f $(VENV)/.installed-$(1)-*
endef

.PHONY: help run test lint audit sbom train-smoke fuzz bench load conformance backup restore chaos overload models clean requirements screenshots

help: ## Print this help
	@echo "LesionLens: make TARGET, where TARGET is one of"
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN) ## Start everything on this machine (PORT=8000); Ctrl-C stops it
	@exec $(BIN)/lesionlens run

test: $(TEST) ## Run all tests, in two processes (PYTEST_ARGS="-n 0 tests/unit")
	@# A test process that dies ends the run and is named; pytest-xdist 3.8 would replace it and wait for ever (#1323).
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --max-worker-restart 0 $(PYTEST_ARGS)

lint: $(LINT) ## Check style, types and what bandit knows
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive services serving lesionlens training

audit: $(AUDIT) ## Look for known vulnerabilities of what is pinned (pip-audit) and for weak code (bandit)
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive services serving lesionlens training
	@$(BIN)/python requirements/audit.py

sbom: $(AUDIT) ## Write bills of materials (CycloneDX) of all requirement sets into artefacts/sbom
	@mkdir -p artefacts/sbom
	@for set in run gateway preprocessor stacker serving training; do \
		$(BIN)/cyclonedx-py requirements requirements/$$set.txt --pyproject pyproject.toml --output-reproducible \
			--output-file artefacts/sbom/$$set.cdx.json || exit 1; echo "artefacts/sbom/$$set.cdx.json"; done

train-smoke: $(TEST) ## Train on 200 drawn images, resume, export and train on (2 minutes; also part of `make test`)
	@$(BIN)/python -m pytest -n 0 -m training

fuzz: $(TEST) ## Feed 20,000 mutated files to the decoders (FUZZ_ARGS="--files 500 --seed 7"; under a minute)
	@$(BIN)/python tests/fuzz/fuzz.py $(FUZZ_ARGS)

bench: $(TEST) $(BENCH) ## Measure the product next to its competitors (BENCH_ARGS="--only networks,way"; 12 minutes)
	@$(BIN)/python -m bench --contestants $(BENCH_VENV)/bin/python $(BENCH_ARGS)

chaos: $(TEST) ## 1,000 uploads while everything breaks at random moments (20 minutes; CHAOS_ARGS="--seed 7")
	@$(BIN)/python tests/chaos/run.py $(CHAOS_ARGS)
	@LESIONLENS_CHAOS_TESTS=1 $(BIN)/python -m pytest tests/chaos

overload: $(TEST) ## Five times as many uploads as can be worked through, for two minutes
	@$(BIN)/python tests/load/overload.py $(OVERLOAD_ARGS)

backup: $(RUN) ## Write record and photographs to FILE (default: lesionlens-DATE.tar)
	@$(BIN)/lesionlens backup "$(or $(FILE),lesionlens-$(shell date +%Y%m%d-%H%M%S).tar)"

restore: $(RUN) ## Bring FILE back into an empty data folder
	@[ -n "$(FILE)" ] || { echo "Say which backup: make restore FILE=lesionlens-….tar" >&2; exit 2; }
	@$(BIN)/lesionlens restore "$(FILE)"

load: $(TEST) $(LOCUST) ## Measure pages and polls with twenty people at the same time
	@$(BIN)/python tests/load/page_and_poll.py $(LOCUST_VENV)/bin/locust $(LOAD_ARGS)

conformance: $(CONFORMANCE) ## Compare the running service with its OpenAPI document (Schemathesis)
	@$(BIN)/python tests/contract/conformance.py $(CONFORMANCE_ARGS)

models: $(if $(and $(DATA),$(OTHERS)),$(TRAINING)) ## Train the four networks and the stack (DATA, OTHERS, WEIGHTS=folders), export to serving/models
	@[ -n "$(DATA)" -a -n "$(OTHERS)" ] || { echo "Say where the labelled images are, and pictures of anything but lesions, which are to be" \
	  "refused: make models DATA=folder OTHERS=folder [WEIGHTS=folder]. Without the latter: docs/training.md" >&2; exit 2; }
	@$(BIN)/lesionlens train --data "$(DATA)" --runs artefacts/runs $(if $(WEIGHTS),--weights "$(WEIGHTS)")
	@$(BIN)/lesionlens export --data "$(DATA)" --runs artefacts/runs --others "$(OTHERS)"

clean: ## Remove .venv, caches and the embedded servers' data (.data)
	rm -rf $(VENV) $(LOCUST_VENV) $(BENCH_VENV) .venv-checkov .data .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info artefacts
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

requirements: ## Pin requirements/*.txt anew from pyproject.toml (UPGRADE=--upgrade; needs uv)
	@requirements/compile.sh $(UPGRADE)

screenshots: $(TEST) ## Take pictures of the pages into artefacts/browser (needs Chromium)
	@$(BIN)/python -m pytest tests/e2e/browser

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "LesionLens needs Python 3.11 or newer; none was found on PATH." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "Making $(VENV) failed; on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf $(VENV); exit 2; }

$(RUN): $(BIN)/python
	$(call install,run,about 250 MB)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(TEST): $(RUN)
	$(call install,test,about 400 MB)
	@touch $@

$(LINT): $(RUN)
	$(call install,lint,about 40 MB)
	@touch $@

$(AUDIT): $(RUN)
	$(call install,audit,about 40 MB)
	@touch $@

$(TRAINING): $(RUN)
	$(call install,training,about 400 MB)
	@touch $@

$(CONFORMANCE): $(TEST)
	$(call install,conformance,about 30 MB)
	@touch $@

$(LOCUST): $(BIN)/python
	@echo "Installing requirements/load.txt into $(LOCUST_VENV) (about 60 MB; once)…"
	@$(PYTHON) -m venv $(LOCUST_VENV)
	@$(LOCUST_VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/load.txt
	@touch $@

$(BENCH): $(BIN)/python
	@echo "Installing requirements/bench.txt into $(BENCH_VENV) (about 700 MB; once)…"
	@$(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/bench.txt
	@rm -f $(BENCH_VENV)/.installed-*
	@touch $@

-include deploy.mk
