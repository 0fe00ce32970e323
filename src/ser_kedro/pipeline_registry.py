"""The registered pipelines: each step as itself, and the runs that join them."""

from kedro.pipeline import Pipeline

from ser_kedro.pipelines import (
    ablations,
    acquisition,
    data_split,
    evaluation,
    policy_evaluation,
    pool,
    ppo,
    results,
    seed_rm,
    self_evolve,
    sft,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name. What is finished already is reused, not redone.

    ``self_evolve``, which is the default, ``policy`` and the comparisons start from
    the raw preferences. The others are single steps, which read from the catalog what
    the steps before them made.
    """
    steps = {
        "data_split": data_split.create_pipeline(),
        "sft": sft.create_pipeline(),
        "seed_rm": seed_rm.create_pipeline(),
        "pool": pool.create_pipeline(),
        "loops": self_evolve.create_pipeline(),
        "evaluation": evaluation.create_pipeline(),
        "ppo": ppo.create_pipeline(),
        "policy_evaluation": policy_evaluation.create_pipeline(),
    }
    reward_model = sum(
        (steps[name] for name in ("data_split", "sft", "seed_rm", "pool", "loops")),
        start=Pipeline([]),
    )
    evolved = reward_model + steps["evaluation"]
    return {
        "__default__": evolved,
        "self_evolve": evolved,
        "policy": reward_model + steps["ppo"] + steps["policy_evaluation"],
        **steps,
        "acquisition": acquisition.create_pipeline(),
        "ablations": ablations.create_pipeline(),
        "label_efficiency": ablations.create_efficiency_pipeline(),
        "policy_comparison": ablations.create_policy_pipeline(),
        "results": results.create_pipeline(),
    }
