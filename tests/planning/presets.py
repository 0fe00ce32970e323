"""The parameters of a preset as a run would have them."""

from pathlib import Path

from ser_kedro.configuration import ProjectConfigLoader
from ser_kedro.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[2] / "conf"


def preset(name):
    """Return all parameters under a model's preset and data of one's own."""
    loader = ProjectConfigLoader(
        str(CONF), env="own", runtime_params={"model": name}, **CONFIG_LOADER_ARGS
    )
    return loader["parameters"]
