PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test check seeds real bench clean

demo: .venv/ready  ## run self-evolution on the embedded demo
	$(BIN)/kedro run --pipelines self_evolve

test: .venv/ready  ## run the tests
	$(BIN)/pytest

check: .venv/ready  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

seeds: .venv/ready  ## the demo for 10 seeds, with its controls, into docs/results.md
	$(BIN)/python scripts/demo_seeds.py --seeds 10

real: .venv/ready  ## HH-RLHF pairs of ../shared/data, into docs/results.md
	$(BIN)/python scripts/real_pairs.py

bench: .venv/ready  ## side by side with other software, into docs/benchmarks.md
	$(BIN)/python -m benchmarks

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:  ## remove the environment and every result
	rm -rf .venv
	git clean -fdXq data
