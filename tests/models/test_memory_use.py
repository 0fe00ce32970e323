import pytest
import torch

from ser_kedro.errors import ModelError
from ser_kedro.models.memory_use import Pieces, out_of_memory, saved_bytes


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


def pieces(most, limit, **changes):
    tried = []

    def work(size):
        tried.append(size)
        if size > limit:
            raise torch.OutOfMemoryError("CUDA")
        return "done"

    made = Pieces(most, **{"halves": True, "hint": "lower it", **changes})
    return made, work, tried


def test_pieces_are_halved_until_they_fit_and_stay_so():
    made, work, tried = pieces(None, limit=3)

    assert [made.work(16, work), made.work(16, work)] == ["done", "done"]
    assert tried == [16, 8, 4, 2, 2]


def test_no_more_than_asked_is_taken_at_once():
    made, work, tried = pieces(4, limit=9)

    made.work(16, work)
    made.work(2, work)

    assert tried == [4, 2]


@pytest.mark.parametrize("changes", [{"limit": 0}, {"limit": 3, "halves": False}])
def test_pieces_that_cannot_be_halved_are_one_line(changes):
    made, work, _ = pieces(None, **changes)

    with pytest.raises(ModelError, match="^lower it$"):
        made.work(16, work)


def test_other_errors_are_none_of_its_business():
    made, _, _ = pieces(None, limit=1)

    with pytest.raises(ZeroDivisionError):
        made.work(4, lambda size: size / 0)
