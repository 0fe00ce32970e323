"""The ``ser-kedro`` command, and ``kedro run`` with errors that fit on one line."""

from __future__ import annotations

import difflib
import functools
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Pipeline
from kedro.validation.exceptions import ParameterValidationError
from yaml import YAMLError

from ser_kedro.acquisition.exports import EXPORTS
from ser_kedro.errors import ParameterError, SerKedroError, printable
from ser_kedro.preferences.formats.votes import Reading
from ser_kedro.store.layout import project_root

EXIT_CODE = 2
_FIELD_ERROR = re.compile(
    r"Parameter '(?P<section>[\w.]+)': .*?\d+ validation errors? for \w+\n"
    r"(?:(?P<field>\S+)\n)? +(?P<message>.+?)"
    r" \[type=\w+, input_value=(?P<value>.*?), input_type="
)


def one_line(error: BaseException) -> str | None:
    """Return what to tell the user of an error that is theirs to fix, else ``None``.

    Kedro wraps what a dataset or a node raises, so the causes are searched too.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SerKedroError) or _is_about_options(cause):
            return " ".join(str(cause).split())
        if isinstance(cause, ParameterValidationError):
            return _parameter_line(str(cause))
        if isinstance(cause, MissingConfigException | YAMLError):
            return " ".join(str(cause).split())
        cause = cause.__cause__ or cause.__context__
    return None


def _is_about_options(error: BaseException) -> bool:
    # What Kedro says of --to-nodes and the like is plain, but comes as a ValueError.
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, ValueError) and Pipeline.filter.__code__ in frames


def _parameter_line(text: str) -> str:
    found = _FIELD_ERROR.search(text)
    if found is None:
        return " ".join(text.split())
    place = ".".join(filter(None, (found["section"], found["field"])))
    return (
        f"{place}={found['value'].strip(chr(39))}: {found['message']}; give another"
        " value with --params or in conf/"
    )


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command so that a mistake ends in one line and exit code 2."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            _check_env(kwargs.get("env"))
            return function(*args, **kwargs)
        except Exception as error:
            if (line := one_line(error)) is None:
                raise
            click.echo(f"Error: {printable(line)}", err=True)
            sys.exit(EXIT_CODE)

    return wrapper


def _check_env(env: str | None) -> None:
    # Kedro takes an empty name, as of a shell variable without a value, for the base.
    if env == "":
        raise ParameterError("--env: the name is empty; leave it out for the base")


@click.group(name="ser-kedro")
def cli() -> None:
    """Self-evolved reward learning for language models."""


def _run(**options: Any) -> Any:
    # The older spelling of --pipelines; Kedro would warn.
    if options["pipeline"] and not options["pipelines"]:
        options["pipelines"] = [options["pipeline"]]
        options["pipeline"] = None
    _check_pipelines(options["pipelines"] or [])
    assert kedro_run.callback is not None
    return kedro_run.callback(**options)


def _check_pipelines(names: Iterable[str]) -> None:
    for name in names:
        if name not in pipelines:
            close = difflib.get_close_matches(name, list(pipelines), 1)
            hint = f", did you mean {close[0]}?" if close else ""
            known = ", ".join(sorted(pipelines))
            raise ParameterError(
                f"--pipelines {name}: no such pipeline{hint} (known: {known})"
            )


cli.add_command(
    click.Command(
        "run", params=kedro_run.params, callback=guarded(_run), help=kedro_run.help
    )
)


def _plan(**options: Any) -> None:
    from ser_kedro.cli.plan import plan_text

    click.echo(plan_text(**options))


def _option_of_run(name: str) -> click.Parameter:
    return next(option for option in kedro_run.params if option.name == name)


cli.add_command(
    click.Command(
        "plan",
        params=[
            _option_of_run("env"),
            _option_of_run("params"),
            click.Option(
                ["--devices"],
                type=click.IntRange(1),
                help="Devices of all nodes together; the launcher's if not given.",
            ),
            click.Option(
                ["--device-memory"], help="Memory of one device, such as 80GB or 24GiB."
            ),
            click.Option(
                ["--zero"],
                type=click.IntRange(0, 3),
                help="DeepSpeed's ZeRO stage, 0 for none; the launcher's if not given.",
            ),
            click.Option(
                ["--offload"],
                type=click.Choice(["none", "optimizer", "parameters"]),
                help="What ZeRO keeps in the host's memory.",
            ),
        ],
        callback=guarded(_plan),
        help="Say what a run will need: memory of a device, disk, steps, what is done"
        " already. Starts nothing, downloads no weights, and refuses nothing.",
    )
)


def _look(path: str, columns: str | None, pool: bool, rows: int, **fields: Any) -> None:
    from ser_kedro.preferences.look import look
    from ser_kedro.preferences.source import PreferenceSource

    named = dict(_column(given) for given in (columns or "").split(",") if given)
    part: Literal["train", "pool"] = "pool" if pool else "train"
    if pool:
        fields |= {
            "pool_path": path,
            "pool_columns": named,
            "pool_format": fields["format"],
        }
    source = PreferenceSource(path=path, columns=named, **fields)
    click.echo(look(source, part, rows))


def _column(given: str) -> tuple[str, str]:
    meaning, equals, column = given.partition("=")
    if not equals or not column:
        raise ParameterError(
            f"--columns {given}: write MEANING=COLUMN, such as prompt=question"
        )
    return meaning.strip(), column.strip()


cli.add_command(
    click.Command(
        "look",
        params=[
            click.Argument(["path"]),
            click.Option(
                ["--format"],
                default="auto",
                show_default=True,
                help="A format of docs/data.md; auto looks at the columns.",
            ),
            click.Option(
                ["--columns"],
                help="What columns mean, such as prompt=question,chosen=best.",
            ),
            click.Option(
                ["--preference"],
                type=click.Choice(get_args(Reading)),
                help="What the values of a preference mean; guessed if not given.",
            ),
            click.Option(
                ["--pool"], is_flag=True, help="Read it as a pool: without labels."
            ),
            click.Option(
                ["--rows"],
                type=click.IntRange(1),
                default=100_000,
                show_default=True,
                help="Rows to read at most.",
            ),
        ],
        callback=guarded(_look),
        help="Say how preference data at PATH (file, folder, URL, hub://OWNER/NAME) are"
        " read, with counts and three pairs. Trains nothing."
        "\n\nExample: ser-kedro look my_pairs.csv --columns prompt=question",
    )
)


def _label_requests(**options: Any) -> None:
    from ser_kedro.cli.label import export_requests

    export_requests(**options)


cli.add_command(
    click.Command(
        "label-requests",
        params=[
            click.Argument(["file"], type=click.Path(dir_okay=False)),
            click.Option(
                ["--format", "form"],
                type=click.Choice(list(EXPORTS)),
                default="jsonl",
                show_default=True,
                help="What reads the file.",
            ),
            _option_of_run("env"),
        ],
        callback=guarded(_label_requests),
        help="Write the pairs that the pipeline acquisition chose to the new FILE, to"
        " be labelled in another tool. Labels come back as any preference data do.",
    )
)


def _label(**options: Any) -> None:
    from ser_kedro.cli.label import serve

    serve(**options)


cli.add_command(
    click.Command(
        "label",
        params=[
            _option_of_run("env"),
            click.Option(
                ["--file"],
                type=click.Path(dir_okay=False),
                default="labels.jsonl",
                show_default=True,
                help="Where the labels go; what is there already is gone on with.",
            ),
            click.Option(
                ["--annotator"],
                envvar="USER",
                default="unknown",
                help="Who labels; your login if not given.",
            ),
            click.Option(
                ["--repeat-share"],
                type=click.FloatRange(0, 1),
                default=0.05,
                show_default=True,
                help="Share of the pairs that are asked twice, later and swapped.",
            ),
            click.Option(
                ["--host"],
                default="127.0.0.1",
                show_default=True,
                help="Address to serve at; the default serves this machine alone.",
            ),
            click.Option(
                ["--port"],
                type=click.IntRange(0, 65535),
                default=8765,
                show_default=True,
                help="0 for any that is free.",
            ),
            click.Option(
                ["--browser"], is_flag=True, help="Open the page in a browser."
            ),
        ],
        callback=guarded(_label),
        help="Serve a page on which the pairs that the pipeline acquisition chose are"
        " labelled, with the keys 1, 2, t(ie), s(kip) and u(ndo).",
    )
)


def _verify() -> None:
    from ser_kedro.cli.verify import verify

    for line in verify():
        click.echo(line)


cli.add_command(
    click.Command(
        "verify",
        callback=guarded(_verify),
        help="Read all of data/store and say which finished jobs are damaged (exit"
        " code 2 if any). Changes nothing: the next run sets them aside and makes them"
        " again.",
    )
)


def _prune(**options: Any) -> None:
    from ser_kedro.cli.prune import prune

    for line in prune(**options):
        click.echo(line)


cli.add_command(
    click.Command(
        "prune",
        params=[
            click.Option(
                ["--keep"],
                type=click.IntRange(1),
                required=True,
                help="Versions of each dataset that stay, the newest ones.",
            ),
            click.Option(
                ["--spare-hours"],
                type=click.FloatRange(0),
                default=24,
                show_default=True,
                help="Jobs that were made or used so recently stay in any case; a run"
                " may be under way.",
            ),
            click.Option(
                ["--dry-run"], is_flag=True, help="Only say what would be removed."
            ),
        ],
        callback=guarded(_prune),
        help="Remove old versions of all environments, and from data/store the jobs"
        " that no other version needs.",
    )
)


def _history() -> None:
    from ser_kedro.cli.prune import history

    click.echo(history())


cli.add_command(
    click.Command(
        "history",
        callback=guarded(_history),
        help="List the runs of all environments, with what they kept.",
    )
)


def main() -> None:
    """Run the ``ser-kedro`` command in the project of the working directory."""
    root = project_root()
    if not (root / "pyproject.toml").is_file():
        click.echo(f"Error: {root}: no Kedro project here; go to its folder", err=True)
        sys.exit(EXIT_CODE)
    bootstrap_project(root)
    cli()
