"""The registered pipelines; each includes what it needs upstream."""

from kedro.pipeline import Pipeline

from ser_kedro.pipelines import (
    ablations,
    data_split,
    evaluation,
    policy_evaluation,
    ppo,
    seed_rm,
    self_evolve,
    sft,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name. What is finished already is reused, not redone."""
    split = data_split.create_pipeline()
    language_model = split + sft.create_pipeline()
    seed = language_model + seed_rm.create_pipeline()
    road = seed + self_evolve.create_pipeline() + evaluation.create_pipeline()
    policy = seed + self_evolve.create_pipeline() + ppo.create_pipeline()
    policy += policy_evaluation.create_pipeline()
    return {
        "__default__": road,
        "data_split": split,
        "sft": language_model,
        "seed_rm": seed,
        "self_evolve": road,
        "evaluation": road,
        "ppo": policy,
        "policy_evaluation": policy,
        "evidence": ablations.create_pipeline(),
        "label_efficiency": ablations.create_efficiency_pipeline(),
    }
