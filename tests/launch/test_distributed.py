"""The heavy jobs in two ranks on CPUs: they end where one process ends.

Six of the sixteen cases of benchmarks/launchers.py, so that any two of launcher,
adapters and packing meet once.
"""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from benchmarks import launchers
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import INLINE
from ser_kedro.models.calibration import validation_rewards
from ser_kedro.store import job_store as store
from ser_kedro.store.layout import PROJECT_VARIABLE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def matrix():
    """The benchmark, which sets the project; this takes it back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROJECT_VARIABLE, "")
        yield launchers


@pytest.fixture(scope="module")
def alone(matrix, tmp_path_factory):
    """Rewards and folder of a case's jobs in one process, done once each."""
    done = {}

    def get(case):
        name = case.partition("-")[2]
        if name not in done:
            folder = tmp_path_factory.mktemp("alone")
            matrix.project(folder)
            done[name] = matrix.rewards(case, INLINE), folder
        return done[name]

    return get


def shapes(folder):
    """The tensors of the models below a folder, by file and name."""
    found = {}
    for file in sorted(folder.rglob("model.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                shape = tensors.get_slice(name).get_shape()
                found[file.parts[-3], name] = tuple(shape)
    return found


# `python -m benchmarks.launchers` has all combinations.
@pytest.mark.parametrize(
    "case",
    [
        "zero2-full-packed",
        "zero3-lora-packed",
        "accelerate-lora-packed",
        "torchrun-full-plain",
    ],
)
def test_two_ranks_give_the_rewards_of_one_process(matrix, alone, tmp_path, case):
    expected, folder = alone(case)
    matrix.project(tmp_path)

    found = matrix.rewards(case, matrix.launcher(case.partition("-")[0]))

    for part in ("validation", "pool"):
        np.testing.assert_allclose(found[part], expected[part], atol=1e-3, rtol=0)
        assert np.ptp(expected[part]) > 0.1
    assert shapes(tmp_path) == shapes(folder)
    assert all(np.prod(shape) > 0 for shape in shapes(tmp_path).values())
    adapters = list(tmp_path.rglob("adapter/adapter_model.safetensors"))
    assert len(adapters) == (2 if "lora" in case else 0)


PARENT = """
    import sys
    from pathlib import Path
    from benchmarks import launchers as matrix
    from ser_kedro.store.references import ModelRef
    from ser_kedro.launch.executor import run
    matrix.project(Path(sys.argv[1]))
    start = ModelRef.model_validate_json(sys.argv[2])
    run(matrix.long_job(start), matrix.launcher("zero2"))
"""


def checkpoints(job):
    place = store.folder(job)
    staging = place.with_name(place.name + store.PARTIAL)
    return {
        path.parent.name: path.parent
        for path in staging.glob("trainer/checkpoint-*/trainer_state.json")
    }


@pytest.fixture(scope="module")
def killed(matrix, tmp_path_factory):
    """A project whose training under ZeRO 2 was killed in its middle, and the job."""
    folder = tmp_path_factory.mktemp("killed")
    matrix.project(folder)
    start = run(matrix.sft_job(matrix.tables()["sft_pairs"], lora=False))["model"]
    job = matrix.long_job(start)
    words = [sys.executable, "-c", textwrap.dedent(PARENT), str(folder)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [*words, start.model_dump_json()], env={**os.environ, "PYTHONPATH": path}
    )
    try:
        deadline = time.monotonic() + 300
        while not checkpoints(job):
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        parent.send_signal(signal.SIGKILL)
    finally:
        parent.kill()
        parent.wait()
    with store.workspace(job):  # free once the last rank is gone
        (newest,) = list(checkpoints(job).values())[-1:]
    # Each rank has written its part of the optimiser.
    assert len(list(newest.glob("global_step*/*zero_pp_rank_*_optim_states.pt"))) == 2
    assert store.find(job) is None
    return folder, job


@pytest.fixture
def copied(killed, tmp_path, monkeypatch):
    """The killed project, to go on in."""
    folder, job = killed
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv(PROJECT_VARIABLE, str(tmp_path))
    return job


@pytest.fixture(scope="module")
def uninterrupted(killed, tmp_path_factory):
    """The rewards where the killed training would have ended."""
    folder, job = killed
    whole = tmp_path_factory.mktemp("whole")
    shutil.copytree(folder, whole, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROJECT_VARIABLE, str(whole))
        place = store.folder(job)
        shutil.rmtree(place.with_name(place.name + store.PARTIAL))
        return validation_rewards(run(job)["model"])


def test_killed_under_zero_2_it_goes_on(copied, uninterrupted, matrix, caplog):
    newest = max(int(name.partition("-")[2]) for name in checkpoints(copied))

    with caplog.at_level("INFO"):
        model = run(copied, matrix.launcher("zero2"))["model"]

    said = [m for m in caplog.messages if "resuming training from checkpoint-" in m]
    assert [m.rpartition("-")[2] for m in said] == [str(newest)]
    rewards = validation_rewards(model)
    np.testing.assert_allclose(rewards, uninterrupted, atol=1e-3)
    assert np.ptp(rewards) > 0.1


def test_other_ranks_start_again(copied, uninterrupted, caplog):
    with caplog.at_level("INFO"):
        model = run(copied)["model"]

    assert any(
        "was saved with ZeRO 2 on 2 ranks and cannot be resumed with no ZeRO:"
        " restarting training from the initial weights" in message
        for message in caplog.messages
    )
    np.testing.assert_array_equal(validation_rewards(model), uninterrupted)


def test_without_zero_any_ranks_go_on(
    killed, uninterrupted, matrix, tmp_path, monkeypatch, caplog
):
    from ser_kedro.training.run import Progress

    folder, job = killed
    shutil.copytree(folder / "data", tmp_path / "data")
    matrix.project(tmp_path)
    place = store.folder(job)
    shutil.rmtree(place.with_name(place.name + store.PARTIAL))

    def break_off(self, args, state, *rest, **more):
        if state.global_step == job.params.save_steps + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "on_step_end", break_off)
        run(job)
    with caplog.at_level("INFO"):
        model = run(job, matrix.launcher("torchrun"))["model"]

    assert "resuming training from checkpoint-20" in caplog.text
    np.testing.assert_allclose(validation_rewards(model), uninterrupted, atol=1e-3)
