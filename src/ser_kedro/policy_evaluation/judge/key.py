"""The judge's key: from Kedro's credentials or the environment, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from ser_kedro.errors import JudgeError
from ser_kedro.policy_evaluation.judge.params import JudgeParams

# What a server that asks for no key is sent.
_NO_KEY = "none"


def find_key(
    params: JudgeParams,
    credentials: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> SecretStr:
    """Return the key, in a form that does not print.

    Args:
        params: Which environment variable holds it.
        credentials: Entry ``judge`` of Kedro's credentials; its ``api_key`` wins.
        environ: Environment variables.

    Raises:
        JudgeError: If there is none.
    """
    found: Any = (credentials or {}).get("api_key")
    if isinstance(found, SecretStr):
        found = found.get_secret_value()
    if not found and params.key_variable is None:
        return SecretStr(_NO_KEY)
    key = str(found or environ.get(params.key_variable or "", "")).strip()
    if not key:
        raise JudgeError(
            f"judge at {params.base_url}: no key; write judge: {{api_key: …}} into"
            f" conf/local/credentials.yml or set {params.key_variable}"
        )
    if not (key.isascii() and key.isprintable()):
        raise JudgeError(
            f"judge at {params.base_url}: the key holds characters that no key has;"
            " copy it again"
        )
    return SecretStr(key)
