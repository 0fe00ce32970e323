"""What a pool without labels cannot be used for."""

from __future__ import annotations

import dataclasses

import pytest

from ser_kedro.ablations.methods import CONTROLS, HONEST
from ser_kedro.ablations.params import AblationParams
from ser_kedro.ablations.settings import AblationSettings
from ser_kedro.errors import ParameterError
from ser_kedro.preferences.source import PreferenceSource


def settings(methods, **source):
    fields = [field.name for field in dataclasses.fields(AblationSettings)]
    ablations = AblationParams(
        data="own",
        phase="development",
        seeds=(0,),
        methods=methods,
        variants={"true": {"method": "oracle"}, "own": {"method": "ser"}},
        shares=(1.0,),
        processes=1,
    )
    given = {
        "source": PreferenceSource(path="a.jsonl", **source),
        "ablations": ablations,
    }
    return AblationSettings(**{**dict.fromkeys(fields), **given})


@pytest.mark.parametrize("name", [*CONTROLS, "true"])
def test_methods_that_need_the_truth_refuse_in_one_line(name):
    with pytest.raises(
        ParameterError, match=rf"ablations\.methods: {name}: the labels"
    ):
        settings(["seed", name], pool_path="b.jsonl").check_truth()


def test_other_methods_run():
    settings([*HONEST, "own"], pool_path="b.jsonl").check_truth()


@pytest.mark.parametrize("source", [{}, {"pool_path": "b", "pool_labels": "audit"}])
def test_all_run_where_the_truth_is_known(source):
    settings([*HONEST, *CONTROLS, "true"], **source).check_truth()


def test_label_efficiency_hides_labels():
    settings(["seed"]).check_shares()
    with pytest.raises(ParameterError, match="leave pool_path out"):
        settings(["seed"], pool_path="b.jsonl").check_shares()
