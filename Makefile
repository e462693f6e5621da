# `make demo` and `make test` are all a newcomer needs; both first make a virtual environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
PYTEST := $(RUN) pytest -n 2 --dist worksteal

.PHONY: demo test test-all lint bench facts clean

demo: $(VENV)/demo.done  ## the main job on real photographs: about 8 minutes on two cores, and 170 MB of downloads
	$(BIN)/opsin fit demo:solar-cells --under 5ms --out runs/solar-cells $(if $(wildcard runs/solar-cells/config.yaml),--resume,)
	@echo "Open runs/solar-cells/report.html in a browser."

test: $(VENV)/test.done  ## the tests: some 20 minutes on two cores
	$(PYTEST)

test-all: $(VENV)/test.done  ## every variant of every network too: hours
	$(PYTEST) --all

lint: $(VENV)/lint.done  ## style and types
	$(RUN) ruff check src tests benchmarks
	$(RUN) ruff format --check src tests benchmarks
	$(RUN) mypy

bench: $(VENV)/test.done  ## the speed of networks and input against timm's
	for file in benchmarks/*.py; do $(BIN)/python $$file; done

facts: $(VENV)/test.done  ## the shipped table of facts, after a family changed
	$(RUN) opsin.families.golden

clean:
	rm -rf $(VENV) build src/*.egg-info

# One stamp for each set of packages. Versions are held in constraints.txt, so that every machine gets the same.
$(VENV)/%.done: pyproject.toml constraints.txt
	@test -d $(VENV) || { echo "Making $(VENV): once, a few minutes, no root needed."; $(PYTHON) -m venv $(VENV); }
	$(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$*]"
	$(if $(filter test,$*),$(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps torchvision timm transformers tokenizers regex)
	@touch $@
