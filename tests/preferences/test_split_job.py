import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ser_kedro.errors import DataError
from ser_kedro.launch.executor import run
from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs
from ser_kedro.preferences.schema import (
    AUDIT,
    LABELED,
    PROMPTS,
    UNLABELED,
    Message,
    prompt_key,
)
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams, assign
from ser_kedro.preferences.split_job import SplitJob
from ser_kedro.store import job_store as store
from ser_kedro.store.json_io import read_json
from ser_kedro.store.tables import map_table, read_table

SCHEMAS = {
    "sft_pairs": LABELED,
    "labeled_pairs": LABELED,
    "validation_pairs": LABELED,
    "unlabeled_pairs": UNLABELED,
    "audit_labels": AUDIT,
    "pool_prompts": PROMPTS,
    "test_pairs": LABELED,
    "ppo_prompts": PROMPTS,
}


WORLD = WorldParams(pairs=600, test_pairs=150)
TRAIN = list(draw_pairs(WORLD, "train"))
TEST = list(draw_pairs(WORLD, "test"))


def write(path, pairs):
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [
        {
            "prompt": pair.prompt[0].content,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "source": pair.source,
        }
        for pair in pairs
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def source(folder, train, test=None):
    return PreferenceSource(
        format="pairs",
        path=write(folder / "train.jsonl", train),
        test_path=None if test is None else write(folder / "test.jsonl", test),
    )


def split(folder, train, test=None, seed=0):
    """Run a job on real files; its tables lie in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder.with_name(f"{folder.name}_raw")
    return SplitJob(source=source(raw, train, test), seed=seed).work(folder)


def flip(pair):
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)


def rows(folder, outputs, name):
    return map_table(folder / outputs[name].path).to_pylist()


@pytest.fixture(scope="module")
def train():
    return TRAIN


@pytest.fixture(scope="module")
def held_out():
    return TEST


@pytest.fixture(scope="module")
def made(tmp_path_factory, train, held_out):
    folder = tmp_path_factory.mktemp("split")
    outputs = split(folder, train, held_out)
    return {name: rows(folder, outputs, name) for name in SCHEMAS} | {
        "report": read_json(folder / outputs["data_report"].path)
    }


class TestTables:
    def test_names_schemas_and_files(self, tmp_path, train, held_out):
        outputs = split(tmp_path, train, held_out)
        assert set(outputs) == {*SCHEMAS, "data_report"}
        for name, schema in SCHEMAS.items():
            assert map_table(tmp_path / outputs[name].path).schema == schema
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {f"{name}.arrow" for name in SCHEMAS} | {"data_report.json"}

    def test_every_pair_is_in_one_table(self, made, train, held_out):
        names = ("sft_pairs", "labeled_pairs", "validation_pairs", "unlabeled_pairs")
        ids = [row["pair_id"] for name in names for row in made[name]]
        assert len(ids) == len(set(ids))
        assert set(ids) < {pair.pair_id for pair in train}
        assert {row["pair_id"] for row in made["test_pairs"]} == {
            pair.pair_id for pair in held_out
        }

    def test_no_label_is_held_out_unless_asked_for(self, made):
        assert made["labeled_pairs"] and made["validation_pairs"] == []

    def test_rows_are_whole(self, made, train, held_out):
        truth = {pair.pair_id: pair for pair in [*train, *held_out]}
        for name in ("sft_pairs", "labeled_pairs", "validation_pairs", "test_pairs"):
            for row in made[name]:
                pair = truth[row["pair_id"]]
                assert (row["chosen"], row["rejected"]) == (pair.chosen, pair.rejected)
                assert row["prompt"][0]["content"] == pair.prompt[0].content
                assert row["source"] == "world"

    def test_audit_tells_the_truth(self, made, train):
        truth = {pair.pair_id: pair for pair in train}
        answers = {row["pair_id"]: row["a_is_chosen"] for row in made["audit_labels"]}
        assert set(answers) == {row["pair_id"] for row in made["unlabeled_pairs"]}
        for row in made["unlabeled_pairs"]:
            pair, first = truth[row["pair_id"]], answers[row["pair_id"]]
            responses = (row["response_a"], row["response_b"])
            expected = (pair.chosen, pair.rejected)
            assert responses == (expected if first else expected[::-1])
        assert 0.4 < sum(answers.values()) / len(answers) < 0.6

    def test_no_group_is_on_two_sides(self, made):
        sides = {}
        for name in SCHEMAS:
            if name == "audit_labels":
                continue
            for row in made[name]:
                sides.setdefault(row["group"], set()).add(name)
        assert {len(names) for names in sides.values()} == {1}

    def test_ppo_prompts_are_distinct(self, tmp_path, train, held_out):
        twice = [*train, *(replace(p, chosen=p.chosen + " x") for p in train)]
        outputs = split(tmp_path, twice, held_out)
        prompts = [
            row["prompt"][0]["content"]
            for row in rows(tmp_path, outputs, "ppo_prompts")
        ]
        assert len(prompts) == len(set(prompts)) > 0

    def test_without_a_test_set(self, tmp_path, train):
        outputs = split(tmp_path, train)
        assert outputs["test_pairs"].rows == pytest.approx(60, abs=4)

    def test_more_rows_than_a_batch(self, tmp_path, held_out):
        pairs = list(draw_pairs(WorldParams(pairs=5000), "train"))
        shuffled = Random(0).sample([flip(pair) for pair in pairs], len(pairs))
        one = split(tmp_path / "one", pairs, held_out)
        other = split(tmp_path / "other", shuffled, held_out)
        report = read_json(tmp_path / "one" / one["data_report"].path)
        assert report["rows"]["train"]["read"] == 5000
        assert one["unlabeled_pairs"] == other["unlabeled_pairs"]

    def test_test_set_that_is_the_training_set(self, tmp_path, train):
        with pytest.raises(DataError, match="all 100 training pairs.*in the test set"):
            split(tmp_path, train[:100], train[:100])

    def test_greeting_first(self, train):
        hello = (Message("user", "hi"), Message("assistant", "Hello!"))
        pairs = [replace(pair, prompt=hello + pair.prompt) for pair in train[:120]]
        keys = [prompt_key(pair.prompt) for pair in pairs]
        found = assign(keys, params=SplitParams(validation="holdout"), seed=0)
        assert found.largest.share < 0.1

    def test_too_few_pairs(self, tmp_path, train):
        with pytest.raises(
            DataError, match="3 usable pairs are too few: nothing left for"
        ):
            split(tmp_path, train[:3])


class TestReport:
    def test_read_is_kept_and_dropped(self, tmp_path, train, held_out):
        leaked = [replace(pair, chosen=f"other {n}") for n, pair in enumerate(held_out)]
        outputs = split(tmp_path, [*train, *train[:5], *leaked[:20]], held_out)
        report = read_json(tmp_path / outputs["data_report"].path)
        for account in report["rows"].values():
            total = account["kept"] + sum(account["dropped"].values())
            assert account["read"] == total
        account = report["rows"]["train"]
        assert account["read"] == 625
        assert account["dropped"]["duplicate"] == 5
        assert account["dropped"]["in_test_set"] >= 20

    def test_says_what_was_made(self, made):
        report = made["report"]
        assert report["tables"] == {name: len(made[name]) for name in SCHEMAS}
        assert report["human_labels"] == {
            "labeled": len(made["labeled_pairs"]),
            "validation": len(made["validation_pairs"]),
            "sft": len(made["sft_pairs"]),
        }
        assert report["prompt_groups"] > 0
        assert json.loads(json.dumps(report)) == report

    def test_says_which_group_is_the_largest(self, made):
        largest = made["report"]["largest_group"]
        assert largest["rows"] >= 1 and len(largest["examples"]) >= 1
        assert 0 < largest["share"] < 0.05
        assert made["report"]["split_by_pair"] == []

    def test_says_which_prompt_is_on_several_sides(self, tmp_path, train):
        prompt = (Message("user", "Say something nice."),)
        outputs = split(tmp_path, [replace(p, prompt=prompt) for p in train[:120]])
        report = read_json(tmp_path / outputs["data_report"].path)
        assert report["split_by_pair"] == [
            {"prompt": "Say something nice.", "rows": 120}
        ]
        assert report["largest_group"]["share"] == 1
        assert min(report["tables"][name] for name in ("sft_pairs", "test_pairs")) > 5

    def test_no_table_says_anything_of_the_labels(self, tmp_path, train, held_out):
        outputs = split(tmp_path, train, held_out)
        assert {name for name, output in outputs.items() if output.metrics} == set()


class TestLabelsDoNotMatter:
    @settings(
        deadline=None,
        max_examples=8,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(seed=st.integers(0, 2**32), change=st.integers(0, 2**32))
    def test_pool_is_the_same_bytes(self, tmp_path, seed, change):
        """Flipped labels and another order of the rows leave no trace in the pool."""
        random = Random(change)
        one = split(tmp_path / "one", TRAIN, TEST, seed=seed)
        other_rows = [flip(pair) if random.random() < 0.5 else pair for pair in TRAIN]
        random.shuffle(other_rows)
        other = split(tmp_path / "other", other_rows, TEST, seed=seed)
        for name in ("unlabeled_pairs", "ppo_prompts", "test_pairs"):
            contents = [
                (tmp_path / run / made[name].path).read_bytes()
                for run, made in (("one", one), ("other", other))
            ]
            assert contents[0] == contents[1]
            assert one[name] == other[name]
        for name in ("sft_pairs", "labeled_pairs", "validation_pairs", "audit_labels"):
            ids = [
                [row["pair_id"] for row in rows(tmp_path / run, made, name)]
                for run, made in (("one", one), ("other", other))
            ]
            assert ids[0] == ids[1]

    def test_flipped_pool_changes_the_audit_alone(self, tmp_path, train, held_out):
        one = split(tmp_path / "one", train, held_out)
        pool = {row["pair_id"] for row in rows(tmp_path / "one", one, "audit_labels")}
        flipped = [flip(pair) if pair.pair_id in pool else pair for pair in train]
        other = split(tmp_path / "other", flipped, held_out)
        same = {name for name in SCHEMAS if one[name] == other[name]}
        assert same == set(SCHEMAS) - {"audit_labels"}
        answers = [
            [row["a_is_chosen"] for row in rows(tmp_path / run, made, "audit_labels")]
            for run, made in (("one", one), ("other", other))
        ]
        assert answers[0] == [not answer for answer in answers[1]]

    def test_seed_changes_the_split(self, tmp_path, train, held_out):
        ids = [
            {
                row["pair_id"]
                for row in rows(
                    tmp_path / str(seed),
                    split(tmp_path / str(seed), train, held_out, seed=seed),
                    "labeled_pairs",
                )
            }
            for seed in (0, 1)
        ]
        assert ids[0] != ids[1]


class TestJob:
    @pytest.fixture(autouse=True)
    def project(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SER_KEDRO_PROJECT", str(tmp_path))

    def test_runs_in_the_store_and_is_reused(self):
        world = WorldParams(pairs=300, test_pairs=60)
        job = SplitJob(source=PreferenceSource(format="demo_world", world=world))
        first = run(job)
        assert read_table(first["test_pairs"]).num_rows == 60
        assert store.find(job) == first == run(job)

    def test_fingerprint_follows_what_matters(self):
        def job(seed=0, labeled_share=0.15, **world):
            return SplitJob(
                source=PreferenceSource(
                    format="demo_world", world=WorldParams(**world)
                ),
                params=SplitParams(labeled_share=labeled_share, validation="holdout"),
                seed=seed,
            )

        assert job().fingerprint == job().fingerprint
        others = [job(seed=1), job(labeled_share=0.3), job(pairs=100)]
        assert len({other.fingerprint for other in [job(), *others]}) == 4

    def test_source_counts_by_its_content(self, tmp_path, train):
        places = (tmp_path / "here", tmp_path / "there")
        jobs = [SplitJob(source=source(place, train[:9])) for place in places]
        assert jobs[0].fingerprint == jobs[1].fingerprint
        assert jobs[0].model_dump() != jobs[1].model_dump()
        flipped = SplitJob(source=source(tmp_path / "flipped", map(flip, train[:9])))
        assert flipped.fingerprint != jobs[0].fingerprint
