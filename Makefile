# Needs python3 (3.11 or newer, with venv) and git; everything else is installed into .venv with pinned versions.
SHELL := bash
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
MINUTES ?= 8

BASES := src/git_starcoder/bases
WORK ?= build/base/$(BASE)
MIRRORS ?=

.PHONY: run test lint docs base

# The main job on this repository itself: a dataset, a small model, its scores beside the references, a completion.
run: .venv/ready
	PATH="$(BIN):$$PATH" git starcoder run . --minutes $(MINUTES)

# On all cores; for one file, `.venv/bin/python -m pytest tests/…` starts sooner.
test: .venv/ready
	$(BIN)/python -m pytest -n auto

# The site, into build/site; warnings are errors.
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# A base, from the three files in its folder; see docs/how-to/base.md. Takes hours, and downloads what is not in MIRRORS.
base: .venv/ready
	@test -n "$(BASE)" || { echo "error: no base is named; make base BASE=NAME" >&2; exit 2; }
	$(BIN)/python benchmarks/make_base.py fetch $(BASES)/$(BASE) $(WORK) $(if $(MIRRORS),--mirrors $(MIRRORS))
	$(BIN)/git-starcoder build --list $(WORK)/tokenizer_repositories.txt -r $(BASES)/$(BASE)/recipe.yaml \
		-o $(WORK)/tokenizer_dataset
	$(BIN)/git-starcoder build --list $(WORK)/repositories.txt -r $(BASES)/$(BASE)/recipe.yaml \
		--set window.tokenizer=$(WORK)/tokenizer_dataset/tokenizer -o $(WORK)/dataset
	test -f $(WORK)/model/training.json || \
		$(BIN)/git-starcoder train $(WORK)/dataset --config $(BASES)/$(BASE)/training.yaml -o $(WORK)/model
	$(BIN)/python benchmarks/memorisation.py $(WORK)/model $(WORK)/dataset > $(WORK)/memorisation.json
	$(BIN)/python benchmarks/by_language.py $(WORK)/model $(WORK)/dataset > $(WORK)/languages.json
	$(BIN)/python benchmarks/make_base.py export $(BASES)/$(BASE) $(WORK) $(WORK)/model $(WORK)/dataset \
		--memorisation $(WORK)/memorisation.json --languages $(WORK)/languages.json

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	@echo "Installing the pinned libraries into .venv: about 2 GB, some minutes."
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
