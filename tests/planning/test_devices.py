"""Devices from launcher presets, and sizes as people write them."""

import pytest

from ser_kedro.errors import ParameterError
from ser_kedro.launch.memory import host_memory
from ser_kedro.launch.params import LauncherParams
from ser_kedro.planning.devices import (
    Devices,
    from_launcher,
    parse_size,
    this_machine,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("80GB", 80 * 10**9), ("24GiB", 24 * 2**30), ("1.5 gb", 15 * 10**8), ("512", 512)],
)
def test_reads_a_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "80 KB", "-1GB", "0GB", "80GB each"])
def test_refuses_what_is_no_size(text):
    with pytest.raises(ParameterError, match="--device-memory .*80GB"):
        parse_size(text)


class TestFromLauncher:
    def launcher(self, **fields):
        return LauncherParams(**{"kind": "torchrun", **fields})

    def test_counts_all_nodes(self):
        zero = {"zero_optimization": {"stage": 3}}
        launcher = self.launcher(processes=8, nodes=2, prefix=("srun",))
        found = from_launcher(launcher, zero)
        assert (found.count, found.zero_stage, found.offload) == (16, 3, "none")

    def test_without_deepspeed(self):
        found = from_launcher(self.launcher(processes=2), None)
        assert (found.count, found.zero_stage) == (2, 0)

    def test_inline_is_one_device(self):
        assert from_launcher(LauncherParams(), None) == this_machine()

    @pytest.mark.parametrize(
        ("section", "offload"),
        [("offload_param", "parameters"), ("offload_optimizer", "optimizer")],
    )
    def test_sees_offload(self, section, offload):
        zero = {"zero_optimization": {"stage": 3, section: {"device": "cpu"}}}
        assert from_launcher(self.launcher(), zero).offload == offload

    def test_processes_on_a_cpu_share_its_memory(self):
        found = from_launcher(self.launcher(processes=2, devices=()), None)
        assert found == Devices(2, host_memory() // 2, bf16=False)
