"""Pages as Jinja templates, with filters for figures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.graph_objects import Figure

from ser_kedro.ablations.efficiency import sentence
from ser_kedro.ablations.loop_table import loops_text
from ser_kedro.ablations.page.tables import comparison_table, part_table
from ser_kedro.errors import ParameterError
from ser_kedro.statistics.estimate import percent


def render(template: str, **values: Any) -> str:
    """Return a page of Markdown.

    Args:
        template: Name of a template in this package.
        **values: What it shows; a name that is missing is an error.
    """
    environment = Environment(  # pages are Markdown  # nosec B701
        loader=PackageLoader("ser_kedro.ablations", "page"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "comparison_table": comparison_table,
        "gain": _gain,
        "level": "{:.0%}".format,
        "loops_table": loops_text,
        "part_table": part_table,
        "percent": percent,
        "sentence": sentence,
    }
    return environment.get_template(template).render(values)


def _gain(difference: Mapping[str, float]) -> str:
    return "{value:+.2f} [{low:+.2f}, {high:+.2f}]".format(**difference)


def as_svg(figures: Mapping[str, Figure]) -> dict[str, str]:
    """Return figures as SVG files, by name.

    Raises:
        ParameterError: If kaleido is not installed.
    """
    try:
        images = {name: one.to_image(format="svg") for name, one in figures.items()}
    except ValueError as error:
        if "kaleido" not in str(error):
            raise
        raise ParameterError(
            "results: figures are drawn by kaleido, which is not installed; run pip"
            " install 'ser-kedro[results]'"
        ) from error
    return {name: image.decode("utf-8") for name, image in images.items()}
