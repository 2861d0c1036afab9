# make quickstart   the demonstration: a sweep, a table, a picture
# make test         format, lint, spelling, import rules, types, docstring examples, fast tests
# make test-ci      the slow and cluster tests that CI runs
# make test-slow    every slow and cluster test
# make bench        speed against other libraries, as ratios; half an hour on an idle machine
# make docs         builds the site of docs/ and opens it
# make docs-tables  writes the tables of settings and options into docs/
# make format       writes the format and the safe fixes
# make clean        removes caches and builds; keeps environments and results
#
# Another interpreter: make test PYTHON=python3.12. One test: make test PYTEST="-k iqm".
# Tests run in two processes, each a file at a time; PYTEST="-n 0" runs them in one.
# One row of the benchmarks: make bench BENCH="--only ppo_cartpole".

PYTHON ?= $$(command -v python3.11 || command -v python3)
PYTEST ?=
BENCH ?=
BIN = .venv/bin
SYSTEM_LIBS = libegl1 libgl1-mesa-dri chromium

.PHONY: quickstart test test-ci test-slow bench types format docs docs-tables clean system-libs

quickstart: .venv/.installed-quickstart
	$(BIN)/rlssl sweep quickstart

test: .venv/.installed-dev system-libs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/lint-imports --no-cache
	@$(MAKE) types
	$(BIN)/python -m pytest -q --doctest-modules rlssl
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not cluster" --durations=10 $(PYTEST)

test-ci: .venv/.installed-dev system-libs
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "ci and not cluster" --durations=10 $(PYTEST)
	$(BIN)/python -m pytest -m "ci and cluster" --durations=10 $(PYTEST)

test-slow: .venv/.installed-dev system-libs
	$(BIN)/python -m pytest -m "slow or cluster" --durations=10 $(PYTEST)

bench: .venv/.installed-bench .venv-sbx/.installed
	$(BIN)/python -m benchmarks $(BENCH)

# envs/ is checked separately: it installs under another name, which mypy cannot follow.
types: .venv/.installed-dev
	$(BIN)/python -m mypy rlssl tests
	$(BIN)/python -m mypy envs

format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A warning is an error: the link does not lead anywhere, or the page is in no table of docs/README.md.
docs: .venv/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -a -b html docs build/docs
	@echo build/docs/index.html
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; \
	then $(BIN)/python -m webbrowser "file://$(CURDIR)/build/docs/index.html"; fi

# The tables of training settings in docs/, from the settings themselves.
docs-tables: .venv/.installed-dev
	$(BIN)/python -m rlssl.algorithms.common.settings_table docs

clean:
	rm -rf build dist rlssl.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed once, and again when the dependencies change. The packages for `test` include those for
# `quickstart` and `docs`.
.venv/.installed-quickstart: pyproject.toml setup.py constraints.txt
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv .venv
	@echo "Installing into .venv; the first time this takes minutes."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[minigrid,report]'
	@touch $@

.venv/.installed-dev: pyproject.toml setup.py constraints.txt
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv .venv
	@echo "Installing into .venv; the first time this takes minutes."
	$(BIN)/python -m pip install --quiet -c constraints.txt \
	  -e '.[dev,docs,minigrid,minatar,vizdoom,robotics,minari,search,report,wandb,mlflow,video]'
	@touch .venv/.installed-quickstart .venv/.installed-docs $@

.venv/.installed-docs: pyproject.toml setup.py constraints.txt
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv .venv
	@echo "Installing into .venv; the first time this takes minutes."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

.venv/.installed-bench: pyproject.toml setup.py constraints.txt
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv .venv
	@echo "Installing into .venv; the first time this takes minutes."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	@touch $@

# SBX, a peer of the benchmarks, with JAX: in an environment of its own.
.venv-sbx/.installed: constraints.txt
	@[ -x .venv-sbx/bin/python ] || "$(PYTHON)" -m venv .venv-sbx
	@echo "Installing SBX into .venv-sbx; the first time this takes minutes."
	.venv-sbx/bin/python -m pip install --quiet -c constraints.txt sbx-rl
	@touch $@

# MuJoCo renders without a display through EGL. Without EGL, tests that render fail. Tests of the
# report and of the site open them in Chromium; without it, they are skipped.
system-libs:
	@if dpkg -s $(SYSTEM_LIBS) >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq; then \
	  for package in $(SYSTEM_LIBS); do \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package \
	    || echo "note: $$package cannot be installed; tests that need it are skipped or fail"; \
	  done; \
	else echo "note: rendering needs EGL and Mesa, tests of reports and of the site Chromium; on Debian:" \
	  "apt-get install $(SYSTEM_LIBS)"; fi
