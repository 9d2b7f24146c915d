# Every command of the project. `make help` lists them; each rule reads as what it does.
# Steps that take long leave a stamp and run again only when something they depend on has changed.

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONWARNINGS := ignore::DeprecationWarning
export OMP_NUM_THREADS ?= 1

LIBRARY := $(shell find rnncourse -name '*.py')
# A name with a space (JupyterLab's "Untitled Folder") would be two names here, and none of ours has one.
SOLUTIONS := $(shell find solutions -type f -not -path '*/.*' -not -path '* *')
EXERCISES := $(shell find exercises -type f -not -path '*/.*' -not -path '* *')
SAMPLE := $(shell find tests/sample_class -name '*.py')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup course book exercises validate sample-class test lint types unit-tests test-attacks \
        serve lab bench bench-grading check-quality experiments data lock clean

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

course: book exercises validate sample-class  ## Set up, build the book, check the exercises, grade a sample class.
	@$(RUN) -m tests.sample_class summary

setup: .venv/.set-up  ## Create .venv with the locked packages.

.venv/.set-up: requirements.lock pyproject.toml
	@sh .ci/system-packages bwrap=bubblewrap
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with PYTHON=…, as in: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "The module venv is missing (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --disable-pip-version-check --no-deps -e .
	@mkdir -p $(@D) && touch $@

book: setup  ## Build the book with warnings as errors.
	$(RUN) book/build.py

exercises: _build/stamps/exercises  ## Make exercises/ anew from solutions/ and fail if the committed files differ.

_build/stamps/exercises: .venv/.set-up $(SOLUTIONS) $(EXERCISES) $(LIBRARY) nbgrader_config.py
	$(RUN) solutions/build.py --check
	@mkdir -p $(@D) && touch $@

validate: _build/stamps/validate  ## Grade every assignment's model answers (full marks) and its blank release (no marks).

_build/stamps/validate: _build/stamps/exercises
	$(RUN) -m tests.sample_class validate
	@mkdir -p $(@D) && touch $@

sample-class: _build/stamps/sample-class  ## Grade a sample class, write feedback and marks.

_build/stamps/sample-class: _build/stamps/exercises $(SAMPLE)
	$(RUN) -m tests.sample_class grade
	@mkdir -p $(@D) && touch $@

test: setup lint types unit-tests  ## Set up, lint, type-check, run all tests and doctests.

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

unit-tests: setup
	@sh .ci/system-packages chromium=chromium
	$(RUN) -m pytest -n auto

test-attacks: setup  ## Run every hostile submission against the grader (long).
	$(RUN) -m pytest -m attacks tests/grading

serve: book  ## Show the book on http://localhost:8000.
	$(RUN) -m http.server 8000 --bind 127.0.0.1 --directory _build/html

lab: setup  ## Open JupyterLab with the exercises.
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/exercises

bench: setup  ## Measure the library's speed and memory.
	$(RUN) -m benchmarks.library

bench-grading: setup  ## Measure the grader against plain nbgrader.
	$(RUN) -m benchmarks.grading

check-quality: setup  ## Measure the exercises' checks with mutants, known mistakes and odd but correct answers.
	$(RUN) -m rnncourse.exercises.quality

experiments: setup  ## Run the experiments whose stored results are missing or outdated.
	$(RUN) -m rnncourse.experiments

data: setup  ## Rebuild the shipped data files from their sources.
	$(RUN) book/data/make_data.py

lock: setup  ## Write requirements.lock anew from requirements.txt.
	$(RUN) -m pip install -r requirements.txt
	set -o pipefail; { echo "# Every package of the environment, exact. Made by \`make lock\` from requirements.txt; do not edit by hand."; \
	  $(RUN) -m pip freeze --exclude-editable | sed 's/^torch==\(.*\)+cpu$$/torch==\1/'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## Remove what `make course` made; submissions and marks in grading/ stay.
	rm -rf .venv _build book/api build dist *.egg-info
