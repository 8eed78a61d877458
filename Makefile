# Two commands for a newcomer: `make demo` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
TORCH ?=

.PHONY: demo dist sbom test test-containers test-faults test-frameworks test-oip test-security test-stories check lint types contracts docs prove electricity bench bench-drift bench-log lock clean

demo: .venv/.serving            ## the whole loop on real flights; QUICK=1 for a short one
	@$(BIN)/fairlead demo $(if $(QUICK),--quick)

test: .venv/.developing         ## every test that needs no root, network or container
	@$(BIN)/pytest -q -n $(WORKERS) -m "not slow and not faults and not containers and not frameworks and not security"

test-stories: .venv/.developing  ## stories too long for every day: the loop retrains itself from its own log
	@$(BIN)/pytest -q -m slow tests/stories

test-security: .venv/.developing  ## what the hostile caller, file and model of docs/security.md try
	@$(BIN)/pytest -q tests/security

test-faults: .venv/.developing  ## what Fairlead survives, measured; FIGURES=1 writes the figures into docs/faults.md
	@$(BIN)/pytest -q -m faults tests/faults $(if $(FIGURES),--figures)

test-containers: .venv/.developing  ## images built, pushed, pulled, run and verified by podman and cosign (Linux, root, Debian packages)
	@$(BIN)/python tests/containers/tools.py
	@$(BIN)/pytest -q -s -m containers tests/containers

test-frameworks: .frameworks/.ready  ## models of every framework, trained, packaged and asked over HTTP; TORCH=torch==2.13.0+cpu names a build
	@.frameworks/bin/python -m pytest -q -s tests/frameworks

.frameworks/.ready: pyproject.toml
	@test -d .frameworks || $(PYTHON) -m venv .frameworks
	@echo "installing PyTorch and TensorFlow: some 3 GB ..."
	@.frameworks/bin/pip install -q --disable-pip-version-check $(TORCH) -e ".[serve,lab,sign,sklearn,torch,tensorflow,lightgbm,xgboost,river,mlflow]" "pandas>=2" \
	    "hypothesis>=6.170" "psutil>=7" "pytest>=9.2" "pytest-timeout>=2.4" "pytest-xdist>=3.8"
	@touch $@

test-oip: .oip/.ready .venv/.developing  ## rows asked by tritonclient, chats by OpenAI's client: nobody here wrote them
	@PYTHONPATH=$(CURDIR)/.oip/grpc $(BIN)/pytest -q tests/serve/test_oip.py tests/serve/test_grpc.py tests/serve/test_chat.py

.oip/.ready:
	@$(PYTHON) -m venv .oip/client
	@.oip/client/bin/pip install -q --disable-pip-version-check "tritonclient[http,grpc]>=2.60"
	@.oip/client/bin/pip install -q --disable-pip-version-check --target .oip/grpc "grpcio>=1.80" "protobuf>=6.33"
	@$(PYTHON) -m venv .oip/openai
	@.oip/openai/bin/pip install -q --disable-pip-version-check "openai>=3.54"
	@touch $@

check: lint types contracts     ## what reads the code without running it

lint: .venv/.developing
	@$(BIN)/ruff check src tests examples prove bench requirements
types: .venv/.developing
	@$(BIN)/mypy
contracts: .venv/.developing
	@$(BIN)/lint-imports

prove: .venv/.developing        ## the stated errors, simulated and measured: writes docs/proofs.md, fails when a bar is not kept
	@$(BIN)/python -m prove.gateway
	@$(BIN)/python -m prove.retraining
	@$(BIN)/python -m prove.intervals
	@$(BIN)/python -m prove
	@$(BIN)/pytest -q -m slow tests/prove

electricity: .venv/.developing  ## retraining on real streams: fetches Elec2 (15 MB), writes examples/electricity/README.md
	@$(BIN)/python -m examples.electricity

bench: .venv/.serving           ## Fairlead and other model servers side by side; INSTALL=1 gets the others
	@$(BIN)/python -m bench.serve $(if $(INSTALL),--install)

bench-drift: .venv/.developing  ## false alarms, delays and cost of watching, beside Evidently and NannyML; INSTALL=1 gets them
	@$(BIN)/python -m bench.drift $(if $(INSTALL),--install)

bench-log: .venv/.developing    ## ten million predictions: size on disk, look-up by id, a scan
	@$(BIN)/python -m bench.log

lock: .venv/.developing         ## refresh the pinned, hashed dependencies
	@$(BIN)/python requirements/lock.py

dist: sbom                      ## the wheel of what is committed, built twice and compared with the commit; its SBOM
	@$(BIN)/python requirements/wheel.py

sbom: .venv/.serving            ## what the wheel needs, by hash: dist/fairlead.cdx.json (CycloneDX 1.6)
	@$(BIN)/python requirements/sbom.py dist/fairlead.cdx.json $$(git log -1 --format=%ct)

clean:
	rm -rf .venv

.venv/.serving: requirements/all.lock pyproject.toml
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing (about a minute the first time) ..."
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes --only-binary=:all: -r requirements/all.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.developing: .venv/.serving requirements/dev.lock
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes --only-binary=:all: -r requirements/dev.lock
	@touch $@
