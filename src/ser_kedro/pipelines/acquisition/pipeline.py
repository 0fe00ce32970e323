"""``pool_pairs``, ``reward_model`` and the labelled pairs → ``label_requests``."""

from kedro.pipeline import Node, Pipeline

from ser_kedro.pipelines.acquisition.nodes import request_labels


def create_pipeline() -> Pipeline:
    """Return the pipeline ``acquisition``."""
    return Pipeline(
        [
            Node(
                request_labels,
                inputs={
                    "pool_pairs": "pool_pairs",
                    "labeled_pairs": "labeled_pairs",
                    "validation_pairs": "validation_pairs",
                    "reward_model": "reward_model",
                    "acquisition": "params:acquisition",
                    "reward": "params:reward",
                    "seed": "params:seed",
                    "launcher": "params:launcher",
                },
                outputs="label_requests",
                name="request_labels",
            )
        ],
        tags="acquisition",
    )
