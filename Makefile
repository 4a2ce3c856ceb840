# make demo: install and train on the bundled sample; make test: install and run every check; make quick: what answers
# in minutes; make gpu: what needs a GPU;
# make claims: train and measure what the papers and this project claim.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo quick test check gpu claims clean

demo: $(STAMP)
	$(BIN)/recon-train --task mri $(ARGS)

quick: $(STAMP) check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not (process or training or ray or slow)'

test: $(STAMP) check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

gpu: $(STAMP)
	$(BIN)/python -m benchmarks.gpu $(ARGS)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

claims: $(STAMP)
	$(BIN)/python -m benchmarks.claims $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
