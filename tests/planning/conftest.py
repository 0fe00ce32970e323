"""Published configurations, without weights."""

from pathlib import Path

import pytest
from transformers import AutoConfig

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(scope="session")
def config():
    """Read the configuration of a preset's model."""
    return lambda name: AutoConfig.from_pretrained(CONFIGS / name)
