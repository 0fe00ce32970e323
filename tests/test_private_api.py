"""Private API of other libraries: what is used, that it is there, and its bounds.

Each entry of ``USED`` may change in any minor version of its library, so pyproject.toml
bounds those, and each has a test here that fails on a version that changed it. A use
that is not listed fails too.
"""

import ast
import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ser_kedro"
# Name as it is written in the code, by file. Kedro documents the methods of a dataset
# (_load, _save, _describe, _exists, _filepath, _version, _get_load_path,
# _get_save_path) for those who write one; the others are nobody's promise.
USED = {
    "configuration.py": {"_fs", "_get_conf_env_path", "_resolve_from_raw_config"},
    "datasets/preference_dataset.py": {"_typing"},
    "datasets/pydantic_json_dataset.py": {"_typing"},
    "datasets/reference_dataset.py": {"_typing"},
    "hooks.py": {"_filter_pipeline_for_missing_outputs"},
    "models/distributed.py": {"__compatible_ops__", "_n_gpu"},
    "models/packed_rows.py": {"_attn_implementation"},
    "models/zero3.py": {
        "_hf_deepspeed_config_weak_ref",
        "_init_weights",
        "_is_hf_initialized",
        "_zero3_consolidated_16bit_state_dict",
    },
    "policy/rloo.py": {
        "_generate_and_score_completions",
        "_metrics",
        "_save_checkpoint",
        "_tokenize_prompts",
    },
    "training/packing_check.py": {"_prepare_inputs"},
    "training/reward_trainer.py": {"_prepare_inputs"},
    "training/sft_trainer.py": {"_remove_unused_columns"},
}
DATASET = {
    *("_load", "_save", "_describe", "_exists"),
    *("_filepath", "_version", "_get_load_path", "_get_save_path"),
}
OF_PYTHON = {"_exit", "__code__"}
BOUNDED = ("kedro", "kedro-datasets", "transformers", "trl", "deepspeed")


def private(name):
    return name.startswith("_") and not name.endswith("__")


def own_names():
    """Private names that this project defines itself."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if ast.unparse(node.value) in {"self", "cls"}:
                    found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found - set().union(*USED.values())


def uses(file, own):
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and private(node.attr):
            yield node.attr
        elif isinstance(node, ast.FunctionDef) and private(node.name):
            yield node.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module != "__future__" and "ser_kedro" not in node.module:
                yield from filter(private, node.module.split("."))
                yield from (a.name for a in node.names if a.name.startswith("_"))


def test_every_use_is_listed():
    own = own_names() | DATASET | OF_PYTHON
    found = {
        file.relative_to(SOURCE).as_posix(): names
        for file in SOURCE.rglob("*.py")
        if (names := set(uses(file, own)) - own)
    }
    assert found == USED


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_by_minor_version(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    listed = [*project["dependencies"], *optional["deepspeed"]]
    (bounds,) = (
        found.group(1)
        for line in listed
        if (found := re.fullmatch(rf"{name}(?:\[.*\])?(>=.*)", line))
    )
    least, below = re.fullmatch(r">=([\d.]+),<([\d.]+)", bounds).groups()
    major, minor, *_ = map(int, least.split("."))
    assert below == f"{major}.{minor + 1}"
    assert version(name).startswith(f"{major}.{minor}.")


def arguments(function):
    return list(inspect.signature(function).parameters)


def test_kedros_configuration_loader(tmp_path):
    from kedro.config import OmegaConfigLoader

    loader = OmegaConfigLoader(str(tmp_path), base_env="base", default_run_env="local")
    assert loader._get_conf_env_path("base") == str(tmp_path / "base")
    assert loader._fs.isdir(str(tmp_path))
    known = ["self", "key", "base_configs", "env_configs", "base_path", "env_path"]
    assert arguments(loader._resolve_from_raw_config)[:5] == known[1:6]


def test_kedros_errors():
    """``cli.main`` tells a mistake in --to-nodes by the frame that it comes from."""
    from kedro.pipeline import Node, Pipeline

    from ser_kedro.cli.main import one_line

    pipeline = Pipeline([Node(abs, inputs="a", outputs="b", name="n")])
    with pytest.raises(ValueError) as raised:
        pipeline.filter(to_nodes=["nosuch"])
    assert "nosuch" in one_line(raised.value)


def test_kedros_only_missing_outputs():
    """``hooks`` asks which nodes a runner will leave out before the runner does."""
    from kedro.io import DataCatalog, MemoryDataset
    from kedro.pipeline import Node, Pipeline
    from kedro.runner import SequentialRunner

    pipeline = Pipeline([Node(abs, inputs="a", outputs="b", name="n")])
    catalog = DataCatalog({"a": MemoryDataset(1), "b": MemoryDataset(2)})
    for runner in (SequentialRunner(), SequentialRunner(is_async=True)):
        left = runner._filter_pipeline_for_missing_outputs(pipeline, catalog)
        assert isinstance(left, Pipeline)


def test_kedro_datasets_previews():
    from kedro_datasets._typing import JSONPreview, TablePreview

    assert JSONPreview.__supertype__ is str
    assert TablePreview.__supertype__ is dict


def test_transformers_models():
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    model = LlamaForSequenceClassification(config)
    assert model.config._attn_implementation == "sdpa"
    before = model.score.weight.clone()
    model.score.weight._is_hf_initialized = False
    model._init_weights(model.score)
    assert not before.equal(model.score.weight)
    kept = model.score.weight.clone()
    model.score.weight._is_hf_initialized = True
    model._init_weights(model.score)
    assert kept.equal(model.score.weight)


def test_transformers_trainer(tmp_path):
    from transformers import Trainer, TrainingArguments

    assert arguments(Trainer._prepare_inputs) == ["self", "inputs"]
    assert arguments(Trainer._remove_unused_columns)[:2] == ["self", "dataset"]
    assert TrainingArguments(output_dir=str(tmp_path))._n_gpu <= 1


def test_transformers_deepspeed():
    from transformers.integrations import deepspeed

    # Nothing, or what calls for the configuration that was set last.
    found = deepspeed._hf_deepspeed_config_weak_ref
    assert found is None or callable(found)
    assert arguments(deepspeed.set_hf_deepspeed_config) == ["hf_deepspeed_config_obj"]


def test_deepspeed():
    from deepspeed.ops import __compatible_ops__
    from deepspeed.runtime.engine import DeepSpeedEngine

    assert "deepspeed_shm_comm" in __compatible_ops__
    assert callable(DeepSpeedEngine._zero3_consolidated_16bit_state_dict)


def test_trls_rloo():
    from trl import RLOOTrainer

    assert arguments(RLOOTrainer._tokenize_prompts) == ["self", "prompts"]
    known = ["self", "inputs"]
    assert arguments(RLOOTrainer._generate_and_score_completions) == known
    assert arguments(RLOOTrainer._save_checkpoint) == ["self", "model", "trial"]
    source = inspect.getsource(RLOOTrainer)
    for metric in ("completions/mean_length", "kl"):
        assert re.search(rf'_metrics\[\w+\]\["{metric}"\]\.append', source)
