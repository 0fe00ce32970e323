import pytest
from transformers import TrainingArguments

from ser_kedro.launch.rank import DEEPSPEED_VARIABLE, LAUNCH_VARIABLE
from ser_kedro.models.distributed import init_distributed, init_scoring, placement


@pytest.mark.parametrize(("seen", "used"), [(0, 0), (1, 1), (4, 1)])
def test_one_process_uses_one_gpu(tmp_path, seen, used):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    arguments._n_gpu = seen

    assert init_distributed(arguments).n_gpu == used
    assert arguments.train_batch_size == arguments.per_device_train_batch_size


def test_deepspeed_is_the_launchers_affair(monkeypatch):
    monkeypatch.setenv(DEEPSPEED_VARIABLE, "zero2.json")
    monkeypatch.delenv(LAUNCH_VARIABLE, raising=False)
    assert placement("fp32")["deepspeed"] is None

    monkeypatch.setenv(LAUNCH_VARIABLE, "x")
    assert placement("fp32")["deepspeed"] == "zero2.json"


def test_inline_nobody_meets(tmp_path, monkeypatch):
    monkeypatch.delenv(LAUNCH_VARIABLE, raising=False)

    assert init_scoring("fp32", tmp_path) is None
