import pytest
import torch

from ser_kedro.models.memory_use import out_of_memory, saved_bytes


def test_saved_bytes_are_the_inputs_and_not_the_weights():
    layer = torch.nn.Linear(10, 3)
    rows = torch.zeros(5, 10)

    assert saved_bytes(layer, lambda: layer(rows).sum()) == 5 * 10 * 4


def test_a_tensor_that_is_kept_twice_counts_once():
    model = torch.nn.ModuleList([torch.nn.Linear(10, 3), torch.nn.Linear(10, 3)])
    rows = torch.zeros(5, 10)

    def both():
        return (model[0](rows) + model[1](rows)).sum()

    kept = saved_bytes(model, both)

    assert kept == 5 * 10 * 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_are_about_memory(error, expected):
    assert out_of_memory(error) is expected
