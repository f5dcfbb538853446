# Two commands: `make demo` runs the embedded analysis to its report, `make test` passes the tests.
# Both install what they need into .venv first.
PYTHON ?= python3
CONFIG ?= config/config.yaml
CORES ?= 2
# Shells get these two by their environment, so that nothing in them is run.
override export CONFIG := $(value CONFIG)
override export CORES := $(value CORES)
BIN := .venv/bin
# Snakemake loads all its executors, and HTCondor's library warns where it has no configuration.
export CONDOR_CONFIG ?= /dev/null
RUN := PATH="$$PWD/$(BIN):$$PATH" snakemake --cores "$$CORES" --configfile "$$CONFIG"
OUTPUT = $$($(BIN)/python -c 'import sys; from hepgen.config import load; print(load(sys.argv[1]).output)' "$$CONFIG")

.PHONY: demo test test-all lint schema help

help:
	@echo "make demo       install, run $$CONFIG and write its report (about 10 minutes on 2 cores)"
	@echo "make test       install and run the quick tests and the linters (under 12 minutes)"
	@echo "make test-all   the slow tests too"

# An environment that is complete carries this stamp; a changed pin or dependency makes it anew.
.venv/.installed: pyproject.toml constraints.txt
	@echo "installing into .venv (a few minutes the first time) ..."
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	  || { echo "error: $(PYTHON) is not Python 3.11 or 3.12; try make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "error: no venv module; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cluster,test]'
	@touch $@

demo: .venv/.installed
	@$(BIN)/hepgen check "$$CONFIG" > /dev/null
	@echo "running $$CONFIG on $$CORES cores: simulation, training, figures, report; about 10 minutes on 2 cores"
	@start=$$(date +%s); report="$(OUTPUT)/report.html"; \
	  $(RUN) --quiet host reason rules --report-after-run --report "$$report" \
	  && echo "done in $$(( $$(date +%s) - start )) s; the report is $$PWD/$$report"

test: .venv/.installed lint
	@echo "running the quick tests; under 12 minutes on 2 cores"
	@PATH="$$PWD/$(BIN):$$PATH" pytest -n "$$CORES" -m "not slow" --dist worksteal --durations 10

test-all: .venv/.installed lint
	@PATH="$$PWD/$(BIN):$$PATH" pytest -n "$$CORES" --dist worksteal --durations 20

lint: .venv/.installed
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/snakefmt --check Snakefile workflow

schema: .venv/.installed
	@$(BIN)/hepgen schema > config/schema.json
