# R1 Box. A fresh clone needs python3 (3.11 or newer), python3-venv, gcc, g++ and make; everything else comes into .venv.
# Arguments: make run ARGS="--port 9000", make test ARGS="-k scheduler", make setup LEVEL=run (without the tests' extras),
# make lock UPGRADE=--upgrade; make iso KEYS=folder UPDATE_CA=ca.pem; make bundle SIGNER=folder RELEASE=0.2.0; make install DRY_RUN=1 PREFIX=/opt/r1box DESTDIR=staging; make uninstall PURGE=yes.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
LEVEL ?= dev
UPGRADE ?=
PREFIX ?= /opt/r1box
DESTDIR ?=
DRY_RUN ?=
VLLM_ENV ?= .venv-vllm
PURGE ?=
KEYS ?=
UPDATE_CA ?=
SIGNER ?=
RELEASE ?=

BIN := $(VENV)/bin
BOOTSTRAP := $(PYTHON) -m installer.bootstrap --venv $(VENV)
# -B: root leaves no compiled files in this tree.
SYSTEM = $(PYTHON) -B -m installer.system $(1) --prefix "$(PREFIX)" --destdir "$(DESTDIR)" $(if $(filter-out 0 no,$(DRY_RUN)),--dry-run)
PAGE := appliance/api/web-src
CLIENTS := $(VENV)/clients
CODE := appliance drivers models tui installer tests
# A cache of its own: behind a mirror that sends no cache headers, asking again would cost the compiled llama.cpp.
COMPILE := UV_CACHE_DIR=$(VENV)/lock-cache $(BIN)/uv pip compile --quiet $(UPGRADE) --generate-hashes --no-annotate --no-emit-index-url \
	--no-emit-find-links --python-version 3.11 --universal --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help run setup walk test test-web test-clients test-vm test-net web lint format bench lock dist deb iso bundle authority install uninstall clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run:  ## set up if needed, then serve the demo model; ARGS goes to r1box serve
	@$(BOOTSTRAP) run
	@exec $(BIN)/r1box serve --demo --first-key $(ARGS)

setup:  ## .venv with the project and every extra that the tests use
	@$(BOOTSTRAP) $(LEVEL)
	@echo "Ready: $(BIN)/r1box --help"

test: lint  ## set up if needed, then every check and every test; ARGS goes to pytest
	@echo "== pytest"
	@$(BIN)/python -m tests.side_by_side $(ARGS)

web:  ## build the chat page from its source into appliance/api/web; needs node and npm
	@cd $(PAGE) && npm ci --ignore-scripts --no-audit --no-fund --loglevel error && npm run --silent check && npm run --silent build

test-web:  ## the chat page in Chromium, and that it comes from its source; needs chromium, node and npm
	@$(BOOTSTRAP) dev
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/page.txt
	@cd $(PAGE) && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@$(BIN)/python -m pytest tests/web $(ARGS)

test-vllm:  ## vLLM itself behind the daemon; VLLM_ENV=FOLDER has it already, else it is installed there (3.4 GB)
	@$(BOOTSTRAP) dev
	@R1BOX_TEST_VLLM="$$($(BIN)/python -m tests.vllm.environment $(VLLM_ENV))" timeout 3600 \
		$(BIN)/python -m pytest tests/vllm --timeout 1500 $(ARGS)

test-clients:  ## official clients of every API against a real box; needs node and npm
	@$(BOOTSTRAP) dev
	@test -x $(CLIENTS)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(CLIENTS)
	@$(BIN)/uv pip install --quiet --python $(CLIENTS)/bin/python --require-hashes -r requirements/clients.txt
	@cd tests/clients/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@$(BIN)/python -m pytest tests/clients $(ARGS)

lint:  ## formatting, lint, types and import layers
	@$(BOOTSTRAP) dev
	@echo "== ruff check"
	@$(BIN)/ruff check $(CODE)
	@echo "== ruff format --check"
	@$(BIN)/ruff format --check $(CODE)
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== import-linter"
	@$(BIN)/lint-imports --no-cache --no-logo

format:  ## put the code into its form and mend what ruff can mend
	@$(BOOTSTRAP) dev
	@$(BIN)/ruff check --fix-only $(CODE)
	@$(BIN)/ruff format $(CODE)

bench:  ## print the benchmarks' figures for this machine (minutes; leave the machine alone meanwhile); needs chromium
	@$(BOOTSTRAP) dev
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/page.txt
	@$(BIN)/python -m pytest tests/bench -m bench -s --timeout 1800 $(ARGS)

walk:  ## draw the pictures of docs/console.md anew
	@$(BOOTSTRAP) dev
	@$(BIN)/python -m tests.tui.walk

lock:  ## pin requirements/*.txt anew from pyproject.toml and requirements/*.in
	@$(BOOTSTRAP) dev
	$(COMPILE) pyproject.toml -o requirements/run.txt
	$(COMPILE) pyproject.toml --extra dev -o requirements/dev.txt
	$(COMPILE) --no-deps requirements/demo.in -o requirements/demo.txt
	$(COMPILE) requirements/build.in -o requirements/build.txt
	$(COMPILE) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) requirements/page.in -o requirements/page.txt
	$(COMPILE) requirements/pack.in -o requirements/pack.txt
	$(COMPILE) requirements/clients.in -o requirements/clients.txt
	@rm -rf $(VENV)/lock-cache

dist:  ## dist/r1box: the program with all it needs, for machines without Python; compiles llama.cpp for every processor
	@$(PYTHON) -B -m installer.pack dist

deb:  ## dist/r1box_*.deb from what make dist made
	@$(PYTHON) -B -m installer.pack deb

iso:  ## dist/r1box-*.iso, the installer's medium, from what make deb made; needs root and live-build
	@$(PYTHON) -B -m installer.media iso $(if $(KEYS),--keys "$(KEYS)") $(if $(UPDATE_CA),--update-authority "$(UPDATE_CA)")

bundle:  ## dist/r1box-*.raucb, an update of installed boxes, from what make iso made; SIGNER=FOLDER from make authority
	@$(PYTHON) -B -m installer.media bundle --signer "$(SIGNER)" $(if $(RELEASE),--release "$(RELEASE)")

authority:  ## an authority for updates of one's own, and a signer, in SIGNER=FOLDER
	@$(PYTHON) -B -m installer.media authority "$(SIGNER)"

test-vm:  ## install from the medium in virtual machines, start, chat; needs make iso, QEMU, and half an hour
	@$(BOOTSTRAP) dev
	@$(BIN)/python -m pytest tests/vm -s -m "not bench" $(ARGS)

test-net:  ## changes of the network on a real systemd-networkd in a namespace; needs root
	@$(BOOTSTRAP) dev
	@$(BIN)/python -m pytest tests/netns -s $(ARGS)

install:  ## R1 Box as a service of this Debian or Ubuntu server; needs root; DRY_RUN=1 only tells
	@$(call SYSTEM,install)

uninstall:  ## take the service away again; data and settings stay, unless PURGE=yes
	@$(call SYSTEM,uninstall) --purge "$(PURGE)"

clean:  ## remove the environment, caches and built packages; uv's cache of built wheels stays
	rm -rf $(VENV) $(PAGE)/node_modules tests/clients/node/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
