# Few verbs. `make demo` and `make test` work on a machine with Python 3.11 or newer and nothing else prepared.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format verifier bench contracts clean

demo: $(VENV)/.run  ## install, run the main job on generated department exports, say what happened
	$(BIN)/yunxi demo

test: $(VENV)/.test  ## install what tests need and run them all (YUNXI_SLOW=1: the slow ones too)
	scripts/test

lint: $(VENV)/.test  ## style, types, architecture rules
	scripts/lint

format: $(VENV)/.test
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

verifier: $(VENV)/.run  ## dist/yunxi-verify.pyz and .html: the court's verifier in one file
	$(BIN)/python scripts/build_verifier.py

bench: $(VENV)/.run  ## the table of costs, as text and JSON
	$(BIN)/python scripts/bench.py

contracts: $(VENV)/.test  ## compile contracts/ into ledger/chain/artifacts/ (needs Node.js)
	npm ci && $(BIN)/python scripts/compile_contracts.py

clean:
	rm -rf $(VENV) node_modules dist build demo-run

$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Yunxi needs Python 3.11 or newer: run make PYTHON=python3.11 (or the name of yours)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv module is missing: on Debian and Ubuntu run apt-get install python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run pyproject.toml
	$(BIN)/python -m pip install --quiet --group test --group lint
	@touch $@
