PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

NEWEST := $(VENV)-newest

.PHONY: demo test test-slow wheel newest coverage lint types browser clean

demo: $(VENV)/demo.installed  ## train teacher and students on the embedded reviews and write the report, in minutes
	$(BIN)/python distill.py --teacher_layers 3 --teacher_epochs 1 --teacher_dropout 0 --teacher_lr 4e-4 --teacher_batch 16 \
	  --student_hidden 64 --student_epochs 5 --vectors bundled --general_words 0 --general_sentences 0

test: lint types  ## lint, type checks, tests
	$(PYTEST) $(PARALLEL)

test-slow: $(VENV)/test.installed  ## the tests marked slow, which use the real weights
	$(PYTEST) -m slow

wheel: $(VENV)/test.installed  ## wheels with compiled kernels for Linux on x86-64 and on Arm, and a check of this machine's
	rm -rf dist
	for machine in x86_64 aarch64; do \
		rm -rf build; \
		env -u CC $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist \
			--config-settings=--build-option=--plat-name=linux_$$machine . || exit 1; \
	done
	ls dist/*_x86_64.whl dist/*_aarch64.whl
	$(BIN)/python tests/check_wheel.py dist/*_$$(uname -m).whl

newest:  ## the tests with the newest versions that pyproject.toml allows
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --editable ".[dev]"
	$(NEWEST)/bin/python -m pip list --disable-pip-version-check
	$(NEWEST)/bin/python -m pytest $(PARALLEL)

coverage: $(VENV)/test.installed  ## the tests with line coverage, twice as slow
	$(PYTEST) $(PARALLEL) --cov=distill --cov-report=term:skip-covered --cov-fail-under=90

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.installed
	$(BIN)/mypy distill

$(VENV)/demo.installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt
	touch $@

$(VENV)/test.installed: requirements-dev.txt $(VENV)/demo.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements-dev.txt
	@$(MAKE) --no-print-directory browser
	touch $@

APT := timeout 600 env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=30

browser:  ## install a browser for the tests of the page, which are skipped without one
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then \
		echo "browser: the tests of the page use this one"; \
	elif [ "$$(id -u)" != 0 ] || ! grep -qx 'ID=debian' /etc/os-release; then \
		echo "browser: none found, so the tests of the page are skipped; to install one: apt install chromium (as root)"; \
	elif $(APT) update && $(APT) install --yes --no-install-recommends chromium >/dev/null; then \
		echo "browser: apt installed chromium"; \
	else \
		echo "browser: apt could not install chromium, so the tests of the page are skipped"; \
	fi

clean:
	rm -rf $(VENV) $(NEWEST) build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
