PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint types clean

demo: $(VENV)/demo.installed  ## teacher, students and report on the embedded reviews
	$(BIN)/python distill.py

test: lint types  ## lint, types, tests
	$(BIN)/python -m pytest

test-slow: $(VENV)/test.installed  ## the tests marked slow, with the real weights
	$(BIN)/python -m pytest -m slow --no-cov

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.installed
	$(BIN)/mypy distill

$(VENV)/demo.installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/test.installed: requirements-dev.txt requirements-tune.txt requirements-onnx.txt $(VENV)/demo.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
