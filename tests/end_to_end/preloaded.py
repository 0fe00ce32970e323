"""What the server of ``forked`` imports: libraries, and nothing of ours."""

import inspect

import datasets  # noqa: F401
import kedro.framework.cli
import kedro.framework.session  # noqa: F401
import pandas  # noqa: F401
import peft  # noqa: F401
import transformers.models.auto.modeling_auto  # noqa: F401
import trl.trainer.reward_trainer  # noqa: F401

# Kedro's settings ask for it, and the first answer looks at every module there is.
inspect.stack()
