# Two commands for a newcomer: `make demo` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2

.PHONY: demo test check lint types contracts docs prove bench lock clean

demo: .venv/.serving            ## the whole loop on real flights; QUICK=1 for a short one
	@$(BIN)/fairlead demo $(if $(QUICK),--quick)

test: .venv/.developing         ## every test that needs no root, network or container
	@$(BIN)/pytest -q -n $(WORKERS) -m "not slow"

check: lint types contracts     ## what reads the code without running it

lint: .venv/.developing
	@$(BIN)/ruff check src tests examples prove
types: .venv/.developing
	@$(BIN)/mypy
contracts: .venv/.developing
	@$(BIN)/lint-imports

prove: .venv/.developing        ## the stated errors, simulated and measured: writes docs/proofs.md, fails when a bar is not kept
	@$(BIN)/python -m prove.gateway
	@$(BIN)/python -m prove
	@$(BIN)/pytest -q -m slow tests/prove

bench: .venv/.serving           ## Fairlead and other model servers side by side; INSTALL=1 gets the others
	@$(BIN)/python -m bench.serve $(if $(INSTALL),--install)

lock: .venv/.developing         ## refresh the pinned, hashed dependencies
	@$(BIN)/python requirements/lock.py

clean:
	rm -rf .venv

.venv/.serving: requirements/all.lock pyproject.toml
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing (about a minute the first time) ..."
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/all.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.developing: .venv/.serving requirements/dev.lock
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@
