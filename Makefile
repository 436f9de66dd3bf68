# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test check format bench screenshots clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the pinned dependencies into .venv (once; some minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## make the virtual environment; at once when nothing changed

demo: $(STAMP)  ## train, submit, evaluate and rank reference models on real images
	@$(BIN)/python manage.py demo

serve: $(STAMP)  ## open the site with one worker on what the demo made (Ctrl-C stops both); ADDRESS=HOST:PORT
	@$(BIN)/python manage.py serve $(ADDRESS)

test: $(STAMP)  ## run all tests, three files at a time: some wait more than they work
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: $(STAMP)  ## lint, types, import directions, migrations, known vulnerabilities of what is pinned
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python manage.py makemigrations --check --dry-run
	@$(BIN)/python -m pytest -q tests/test_house.py
	@$(BIN)/python -m tests.audit

format: $(STAMP)  ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP)  ## measure speed ratios in one interleaved run (var/bench.json)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1 \
		|| echo "torchattacks cannot be had here: its bar is left out"
	@$(BIN)/python -m tests.benchmarks

screenshots: $(STAMP)  ## take the pictures of docs/gallery.md anew, of what the demo made
	@$(BIN)/python -m tests.end_to_end.screenshots

clean:  ## remove the virtual environment, caches and everything under var/
	rm -rf .venv var .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
