"""Readers of benchmarks, on small files in their formats, written by hand."""

import gzip
import json
from collections import Counter

import pytest
from pydantic import ValidationError

from ser_kedro.errors import DataError
from ser_kedro.evaluation.benchmarks.params import Benchmark
from ser_kedro.evaluation.benchmarks.read import read_items
from ser_kedro.preferences.schema import Message

REWARD_BENCH = [
    {
        **{"id": 30, "subset": "alpacaeval-easy", "prompt": "Name a tree."},
        **{"chosen": "Oak.", "rejected": "Fish."},
        **{"chosen_model": "a", "rejected_model": "b"},
    },
    {
        **{"id": 31, "subset": "hep-python", "prompt": "Add two numbers."},
        **{"chosen": "a + b", "rejected": ""},
        **{"chosen_model": "a", "rejected_model": "b"},
    },
]
REWARD_BENCH_2 = [
    {
        **{"id": "7", "subset": "Factuality", "prompt": "Capital of France?"},
        **{"chosen": ["Paris"], "rejected": ["Rome", "Oslo", "Bern"]},
        **{"num_correct": 1, "num_incorrect": 3, "total_completions": 4},
        "models": ["a", "b", "c", "d"],
    },
    {
        **{"id": "tied:3", "subset": "Ties", "prompt": "Name a colour of a rainbow."},
        **{"chosen": ["red", "blue"], "rejected": ["brown"]},
        **{"num_correct": 2, "num_incorrect": 1, "total_completions": 3},
        "models": ["a", "b", "c"],
    },
]
RM_BENCH = [
    {
        **{"id": "chat_1", "domain": "chat", "prompt": "What is superposition?"},
        "chosen": ["short", "longer text", "## longer text"],
        "rejected": ["wrong", "wrong at length", "## wrong at length"],
    }
]
PAIRS = [
    {"prompt": "Hello?", "chosen": "Hi.", "rejected": "No.", "source": "mine"},
    {"prompt": "Hello?", "chosen": "", "rejected": "No."},
]


def write(folder, rows, name="test.jsonl"):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".json"):
        text = json.dumps(rows)
    data = text.encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(folder / name)


def read(path, format_name):
    dropped = Counter()
    test = Benchmark(name="t", format=format_name, path=str(path))
    return list(read_items(test, dropped)), dropped


def test_reward_bench(tmp_path):
    items, dropped = read(write(tmp_path, REWARD_BENCH), "reward_bench")
    first, second = items
    assert (first.name, first.subset) == ("30", "alpacaeval-easy")
    assert first.prompt == (Message("user", "Name a tree."),)
    assert (first.right, first.wrong) == (("Oak.",), ("Fish.",))
    assert second.wrong == ("",) and not dropped


def test_reward_bench_2(tmp_path):
    items, _ = read(write(tmp_path, REWARD_BENCH_2), "reward_bench_2")
    assert [item.subset for item in items] == ["Factuality", "Ties"]
    assert items[0].wrong == ("Rome", "Oslo", "Bern")
    assert (items[1].name, items[1].right) == ("tied:3", ("red", "blue"))


def test_rm_bench(tmp_path):
    (item,), _ = read(write(tmp_path, RM_BENCH, "total_dataset.json"), "rm_bench")
    assert item.subset == "chat"
    assert item.right[2] == "## longer text" and item.wrong[0] == "wrong"


def test_any_preference_file(tmp_path):
    items, dropped = read(write(tmp_path, PAIRS, "mine.jsonl.gz"), "pairs")
    (item,) = items
    assert (item.right, item.wrong, item.subset) == (("Hi.",), ("No.",), "mine")
    assert dropped == {"empty_answer": 1}


def test_parquet_in_a_folder(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    table = pa.Table.from_pylist(REWARD_BENCH_2)
    pq.write_table(table, tmp_path / "data" / "test-00000.parquet")
    items, _ = read(tmp_path, "reward_bench_2")
    assert [item.name for item in items] == ["7", "tied:3"]


@pytest.mark.parametrize(
    ("rows", "format_name"),
    [
        (PAIRS[:1], "reward_bench_2"),
        (REWARD_BENCH, "rm_bench"),
        ([{**RM_BENCH[0], "chosen": ["one", "two"]}], "rm_bench"),
        ([{**REWARD_BENCH_2[0], "rejected": []}], "reward_bench_2"),
        ([{**REWARD_BENCH_2[0], "rejected": [1]}], "reward_bench_2"),
        ([{**REWARD_BENCH[0], "prompt": " "}], "reward_bench"),
    ],
)
def test_another_format_says_so(tmp_path, rows, format_name):
    path = write(tmp_path, rows)
    with pytest.raises(DataError, match=r"benchmarks t: no usable row .*\(\d .*\)"):
        read(path, format_name)


def test_bad_rows_are_counted(tmp_path):
    rows = [*REWARD_BENCH, {"prompt": "?"}, {**REWARD_BENCH[0], "chosen": 3}]
    items, dropped = read(write(tmp_path, rows), "reward_bench")
    assert len(items) == 2
    assert dropped == {"missing_keys": 1, "wrong_types": 1}


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(ValidationError, match=r"nowhere.jsonl is not there; give the"):
        read(tmp_path / "nowhere.jsonl", "rm_bench")


def test_an_unknown_format(tmp_path):
    with pytest.raises(DataError, match="did you mean reward_bench"):
        Benchmark(name="t", format="rewardbench", path=str(tmp_path))


def test_missing_ids_and_messages(tmp_path):
    rows = [
        {
            **{"prompt": "Name a tree.", "subset": "mine"},
            "chosen": [
                {"role": "user", "content": "Name a tree."},
                {"role": "assistant", "content": "Oak."},
            ],
            "rejected": [
                {"role": "user", "content": "Name a tree."},
                {"role": "assistant", "content": "Fish."},
            ],
        },
        {**REWARD_BENCH[0], "prompt": [{"role": "system", "content": "Be brief."}]},
    ]
    (item,), dropped = read(write(tmp_path, rows), "reward_bench")

    assert (item.right, item.wrong) == (("Oak.",), ("Fish.",))
    assert len(item.name) == 32
    assert dropped == {"missing_keys": 1}


def test_half_surrogates_are_replaced(tmp_path):
    rows = [{**REWARD_BENCH[0], "rejected": "\ud83d"}]
    (item,), _ = read(write(tmp_path, rows), "reward_bench")

    assert item.wrong == ("\N{REPLACEMENT CHARACTER}",)


def test_it_counts_by_its_content(tmp_path):
    def identity(path, format_name="reward_bench"):
        test = Benchmark(name="any", format=format_name, path=path)
        return test.model_dump(mode="json", context={"identity": True})

    one, copy = (write(tmp_path, REWARD_BENCH, name) for name in ("a.jsonl", "b.jsonl"))
    other = write(tmp_path, REWARD_BENCH[:1], "c.jsonl")
    assert identity(one) == identity(copy) != identity(other)
    assert identity(one) != identity(one, "pairs")


def test_of_a_folder_with_several_splits_the_test_split_is_read(tmp_path):
    other = {**REWARD_BENCH[0], "id": 99, "prompt": "Of another split?"}
    write(tmp_path, [other], "train.jsonl")
    write(tmp_path, REWARD_BENCH[:1], "test.jsonl")
    identity = {"mode": "json", "context": {"identity": True}}
    for kind in ("reward_bench", "pairs"):
        (item,), _ = read(tmp_path, kind)
        assert item.prompt == (Message("user", "Name a tree."),)
        test = Benchmark(name="t", format=kind, path=str(tmp_path))
        before = test.model_dump(**identity)
        write(tmp_path, REWARD_BENCH, "test.jsonl")
        assert test.model_dump(**identity) != before
        write(tmp_path, REWARD_BENCH[:1], "test.jsonl")
        assert test.model_dump(**identity) == before
