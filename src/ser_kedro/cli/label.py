"""``ser-kedro label-requests`` and ``ser-kedro label``: pairs to people, and back."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import Any, cast

import click
import pyarrow as pa
from kedro.framework.session import KedroSession

from ser_kedro.acquisition.exports import export
from ser_kedro.errors import DataError, ParameterError
from ser_kedro.labelling.desk import Desk, plan
from ser_kedro.labelling.journal import Journal
from ser_kedro.store.tables import read_table

_LOCAL = ("127.0.0.1", "::1", "localhost")


def load_requests(env: str | None) -> tuple[pa.Table, int]:
    """Return the newest label requests of an environment, and its seed.

    Raises:
        DataError: If there are none.
    """
    with KedroSession.create(env=env) as session:
        context = cast("KedroSession", session).load_context()
        # Once: a second catalog of a context forgets the environment's globals.
        settings, catalog = context.params, context.catalog
        if not catalog.exists("label_requests"):
            options = f" --env {env}" if env else ""
            raise DataError(
                "label_requests: nothing was chosen yet; run kedro run --pipelines"
                f" acquisition{options} first"
            )
        return read_table(catalog.load("label_requests")), settings["seed"]


def export_requests(*, env: str | None, form: str, file: str) -> None:
    """Write the label requests to a file for another tool."""
    requests, _ = load_requests(env)
    export(requests, form, Path(file))
    click.echo(f"{file}: {requests.num_rows:,} pairs to label, as {form}")


def serve(
    *,
    env: str | None,
    file: str,
    host: str,
    port: int,
    annotator: str,
    repeat_share: float,
    browser: bool,
) -> None:
    """Serve the labelling page until it is interrupted; then say what was labelled.

    Raises:
        DataError: If there is nothing to label, or the file cannot be used.
        ParameterError: If the port is taken, or a package is missing.
    """
    try:
        import uvicorn

        from ser_kedro.labelling.server import create_app
    except ImportError as error:
        raise ParameterError(
            f"label: needs {error.name}; pip install 'ser-kedro[label]'"
        ) from error
    requests, seed = load_requests(env)
    journal = Journal.open(Path(file))
    questions = plan(requests.to_pylist(), seed=seed, repeat_share=repeat_share)
    desk = Desk(questions, journal)
    token = secrets.token_urlsafe(16)
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/?token={token}"
    click.echo(f"Open {address}\nAnswers go to {file}. Ctrl-C ends.")
    if host not in _LOCAL:
        click.echo(
            "Not only this machine is served, and without encryption: whoever has the"
            " address reads the texts. Append &annotator=NAME for each person."
        )
    if browser:
        click.launch(address)
    app = create_app(desk, token, annotator)
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        journal.close()
    click.echo(summary(desk.progress))


def summary(progress: dict[str, Any]) -> str:
    """Say in a few lines what was labelled."""
    lines = [
        f"{progress['answered']:,} of {progress['total']:,} answered:"
        f" {progress['ties']:,} ties, {progress['skipped']:,} skipped"
    ]
    if decided := progress["first_shown"] + progress["second_shown"]:
        share = progress["first_shown"] / decided
        lines.append(f"The answer shown first was preferred in {share:.0%}")
    if progress["repeated"]:
        lines.append(
            f"Repeated pairs with the same answer: {progress['agreed']:,} of"
            f" {progress['repeated']:,}"
        )
    if progress["median_seconds"] is not None:
        lines.append(f"Median time: {progress['median_seconds']:.1f} s")
    return "\n".join(lines)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ParameterError(
            f"--host {host} --port {port}: cannot be used ({error.strerror}); give"
            " another --port, or 0 for any that is free"
        ) from error
