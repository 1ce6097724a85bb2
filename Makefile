# Thin: what each target does is one line; the work is in src, tests, bench and tools.
# Every target makes .venv if it is missing. `make demo` needs neither PyTorch nor a GPU nor a model.

PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Exactly the CPU build, so that no resolver picks a CUDA build by itself. macOS has no other build, and no suffix.
TORCH  := torch==2.13.0
CPU    := $(if $(filter Darwin,$(shell uname -s)),$(TORCH),$(TORCH)+cpu)
PYTEST := $(BIN)/python -m pytest -q
# The transformers whose adapters were simulated for the shared data, and the one that loaded them.
SIMULATED := 4.51.3 5.8.1 5.12.1 5.23.0
# More of them, whose adapters `make load-sim` loads itself with the installed libraries: pairs that the shared data does not have.
PAIRS     := 4.46.3 4.57.6 5.4.0

# Where the tests of other programs write which claims they bear out.
RECORD := --record src/adapterfit/consumers/verified.jsonl

.PHONY: demo test lint fast slow python39 bench docs pages clean why-score matrix claims differential hunt packed fix-score lint-score fuzz load-sim oracles oracles-older coverage-architectures

demo: .venv/core
	$(BIN)/adapterfit demo

test: lint python39 fast slow

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/vermin --quiet --no-tips -t=3.9- src

# Many tests start a process of their own; where nothing may write bytecode by the way, each would compile us anew.
fast: .venv/dev
	$(BIN)/python -m compileall -q src tests
	$(PYTEST) -n 2 --ignore=tests/oracles -m "not exact and not slow"

slow: .venv/dev
	$(BIN)/python -m compileall -q src tests
	$(PYTEST) -n 2 --ignore=tests/oracles -m "exact or slow"

python39: .venv/dev
	$(BIN)/python tools/check_python39.py

bench: .venv/dev
	$(BIN)/python bench/bench.py
	$(BIN)/python bench/fix.py

why-score: .venv/core
	$(BIN)/python tools/why_score.py --verbose

matrix: .venv/dev
	$(BIN)/python tools/matrix.py

# The claims about peft and transformers beside measured loads; what came of each is written down, as by `make oracles`.
claims: .venv/dev
	$(BIN)/python tools/claim_runs.py $(RECORD)

differential: .venv/dev
	$(BIN)/python tools/differential.py

load-sim: .venv/dev $(SIMULATED:%=.venv/sim-%.json) $(PAIRS:%=.venv/sim-%.json)
	$(BIN)/python tools/load_sim.py score $(SIMULATED:%=.venv/sim-%.json)
	$(BIN)/python -W ignore tools/load_sim.py simulate .venv/sim-seen.json $(PAIRS:%=.venv/sim-%.json) .venv/sim-5.23.0.json
	$(BIN)/python tools/load_sim.py score --seen .venv/sim-seen.json $(PAIRS:%=.venv/sim-%.json) .venv/sim-5.23.0.json
	$(BIN)/python tools/load_sim.py trees $(SIMULATED:%=.venv/sim-%.json) $(PAIRS:%=.venv/sim-%.json)

# The names and sizes of every class as an older transformers has them: read in an environment of its own.
.venv/sim-%.json: .venv/dev
	test -d .venv/sim-$* || $(PYTHON) -m venv .venv/sim-$*
	.venv/sim-$*/bin/python -m pip install --quiet --disable-pip-version-check "transformers==$*" $(CPU)
	.venv/sim-$*/bin/python -W ignore tools/load_sim.py collect $@

# Every method on packed modules, each quantiser in an environment of its own (some GB): writes src/adapterfit/expect/packed.json.
packed: .venv/dev
	$(BIN)/python tools/measure_packed.py

hunt: .venv/dev
	$(BIN)/python tools/hunt.py --seconds 600

fix-score: .venv/dev
	$(BIN)/python tools/fix_score.py

lint-score: .venv/dev
	$(BIN)/python tools/lint_score.py

coverage-architectures: .venv/dev
	$(BIN)/python tools/architecture_coverage.py

fuzz: .venv/dev
	FUZZ=50 $(PYTEST) -n 2 tests/property tests/stages/test_repair_writer.py tests/differential/test_targets.py \
		tests/differential/test_readers_against_references.py tests/differential/test_matrix_every_base.py

docs: .venv/docs
	$(BIN)/python tools/gen_docs.py
	$(BIN)/mkdocs build --quiet

pages: .venv/dev
	$(BIN)/python tools/verify_pages.py

# What other programs read and compute, in an environment of its own; the programs come from a package index. What came of
# each claim is written down: from there it has its mark and its date.
oracles: .venv/oracles
	.venv/oracles/bin/python -m pytest -q -n 2 -m oracle tests/oracles $(RECORD)

# The same tests with older releases of some of those programs (see the list for what there is to download).
oracles-older: .venv/oracles tools/oracle_sources_older.txt
	$(BIN)/python tools/make_oracles.py .venv/oracles --older -n 2 $(RECORD)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/core: pyproject.toml | .venv/bin/python
	$(PIP) -e .
	touch $@

.venv/docs: pyproject.toml tools/dev-tools.txt | .venv/bin/python
	$(PIP) -c tools/dev-tools.txt -e '.[docs]'
	touch $@

# PyTorch first and by itself; the second line is its makers' own index of CPU builds.
.venv/dev: pyproject.toml tools/dev-tools.txt | .venv/bin/python
	$(PIP) $(CPU) || $(PIP) $(CPU) --index-url https://download.pytorch.org/whl/cpu
	$(PIP) -c tools/dev-tools.txt -e '.[dev]'
	touch $@ .venv/core

# It sees what .venv has, and adds the other programs without what they would pull in besides.
.venv/oracles: .venv/dev tools/oracles.txt tools/oracle_sources.txt
	$(BIN)/python tools/make_oracles.py $@
