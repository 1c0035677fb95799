# `make demo` and `make test` each work from a bare clone; `make help` lists the rest.
# Other interpreter: make test PYTHON=/path/to/python3.12. Fewer test processes: make test WORKERS=0.

PYTHON ?= $(shell sh scripts/find_python.sh 3.11 3.12 3.13)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q -c constraints.txt
DEMO := demo-output
WORKERS ?= 2
# make test COVERAGE=1 measures which branches run, in child processes too; make coverage tells.
COVERAGE ?=
# Of branches alone; coverage.py's own figure counts statements with them and is higher.
LEAST_COVERAGE := 92

# One thread a process: two test processes fill two cores, and more threads than cores only wait for each other.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help demo test coverage mutants app-test lint format envs sbom audit zoo clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    install, convert the shipped model to int8, verify it, classify a photo"
	@echo "make test    install what tests need, run all tests"
	@echo "make coverage  which branches the tests took, after make test COVERAGE=1; fails below $(LEAST_COVERAGE) %"
	@echo "make mutants  whether the tests of statistics, integers and budgets notice small changes (ten minutes)"
	@echo "make app-test  the part of make test that is the app's, in a browser where there is one"
	@echo "make lint    ruff, mypy, import contracts"
	@echo "make format  let ruff format and mend"
	@echo "make envs    side environments and the browser that some tests need (make test does that too)"
	@echo "make sbom    wheel and sdist in dist/, with a CycloneDX bill of materials"
	@echo "make audit   check the pinned versions, offline; then pip-audit, where it is installed and finds the network"
	@echo "make zoo     convert the shipped model anew and write the sums of all shipped files"
	@echo "make clean   remove environments, caches and the demo's output"

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make $(MAKECMDGOALS) PYTHON=..." >&2; exit 1; }
	@sh scripts/make_venv.sh "$(PYTHON)" $(VENV)

$(VENV)/.demo: $(VENV)/bin/python constraints.txt pyproject.toml
	@echo "installing evit-edge with its converters into $(VENV) (torch among them: minutes, the first time)"
	@$(PIP) torch==2.13.0 -e '.[convert]' scikit-image
	@touch $@

$(VENV)/.test: $(VENV)/bin/python constraints.txt pyproject.toml tests/environments/oracles.txt
	@echo "installing evit-edge and what its tests need into $(VENV) (torch among them: minutes, the first time)"
	@$(PIP) torch==2.13.0 -e '.[dev]'
	@$(PIP) --no-deps -r tests/environments/oracles.txt
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/evit-edge convert --quantize int8 --output $(DEMO) --overwrite
	@$(BIN)/evit-edge verify $(DEMO)/everyday-int8.tflite
	@$(BIN)/python -c 'import sys; from PIL import Image; from skimage.data import coffee; Image.fromarray(coffee()).save(sys.argv[1])' $(DEMO)/coffee.png
	@$(BIN)/evit-edge classify $(DEMO)/everyday-int8.tflite $(DEMO)/coffee.png

envs: $(VENV)/bin/python
	@sh scripts/side_environments.sh $(BIN)/python

test: $(VENV)/.test envs
	@$(if $(COVERAGE),$(BIN)/python -m coverage erase)
	@$(TEST_ENV) $(BIN)/python $(if $(COVERAGE),-m coverage run) -m pytest -n $(WORKERS) --dist loadfile --durations=15 \
	    $(PYTEST_ARGS)

coverage: $(VENV)/.test
	@$(BIN)/python -m coverage combine -q --keep
	@$(BIN)/python -m coverage report
	@$(BIN)/python -m coverage json -q
	@$(BIN)/python scripts/coverage_figures.py ci-output/coverage/report.json $(LEAST_COVERAGE)

mutants: $(VENV)/.test
	@$(PIP) --no-deps -r tests/environments/mutation.txt
	@sh scripts/mutants.sh $(BIN)/python $(MUTANTS)

# The screenshots of its main states lie in ci-output/screenshots afterwards.
app-test: $(VENV)/.test
	@sh scripts/side_environments.sh $(BIN)/python browser
	@$(TEST_ENV) $(BIN)/python -m pytest tests/app -n $(WORKERS) --dist loadfile --durations=5 $(PYTEST_ARGS)

lint: $(VENV)/.test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.test
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

sbom: $(VENV)/.test
	@$(BIN)/python -m hatchling build -d dist
	@$(BIN)/python scripts/sbom.py dist/*.whl dist/sbom.cdx.json

audit: $(VENV)/.test
	@$(BIN)/python scripts/check_pins.py
	@if $(BIN)/python -c 'import pip_audit' 2>/dev/null; then $(BIN)/python -m pip_audit --no-deps -r constraints.txt; \
	else echo "pip-audit is not installed: known vulnerabilities were not looked up (pip install pip-audit)"; fi

zoo: $(VENV)/.demo
	@$(BIN)/evit-edge convert --quantize int8 -o evit_edge/zoo/everyday --overwrite
	@sh scripts/zoo_sums.sh

clean:
	rm -rf dist build/mutation $(VENV) .envs $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
