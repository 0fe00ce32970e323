"""The labelling page over HTTP. Every request needs the token of its address."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field

from ser_kedro.labelling.desk import Desk, Question, Refused
from ser_kedro.labelling.journal import Choice

_Name = Field(max_length=100)


class Window(BaseModel):
    """Who asks.

    Attributes:
        window: A random name that a window gives itself when it is opened.
        annotator: The person in front of it; an empty name is the server's default.
    """

    window: str = Field(min_length=1, max_length=100)
    annotator: str = Field("", max_length=100)


class Given(Window):
    """An answer; the fields are those of ``journal.Answer``."""

    pair_id: str = _Name
    repeat: bool
    choice: Choice
    seconds: float


class TakenBack(Window):
    """An answer to take back, by its number in the journal."""

    number: int


def create_app(desk: Desk, token: str, annotator: str) -> FastAPI:
    """Return the application.

    Its handlers are coroutines that wait for nothing, so one request is finished before
    the next begins: the desk needs no lock.

    Args:
        desk: Hands out the questions.
        token: Without it in the query, every request is refused (403).
        annotator: Who answers, where a window does not say.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    page = files(__package__).joinpath("page.html").read_text("utf-8")

    @app.middleware("http")
    async def guard(
        request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        given = request.query_params.get("token", "")
        if not secrets.compare_digest(given.encode(), token.encode()):
            refused = "The token is missing or wrong; open the address as printed."
            return PlainTextResponse(refused, 403)
        response = await answer(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.exception_handler(Refused)
    async def conflict(request: Request, error: Refused) -> Response:
        return JSONResponse({"detail": str(error)}, 409)

    @app.get("/")
    async def show() -> Response:
        # Nothing runs but the page's own script, whatever a response says.
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; img-src data:;"
            f" style-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none';"
            " form-action 'none'; frame-ancestors 'none'"
        )
        shown = page.replace("{{nonce}}", nonce)
        return HTMLResponse(shown, headers={"Content-Security-Policy": policy})

    @app.post("/next")
    async def next_question(asked: Window) -> dict[str, Any]:
        return _state(desk, desk.next(asked.window))

    @app.post("/answer")
    async def answer(given: Given) -> dict[str, Any]:
        written = desk.answer(
            given.window,
            (given.pair_id, given.repeat),
            given.choice,
            given.seconds,
            given.annotator or annotator,
        )
        state = _state(desk, desk.next(given.window))
        return {**state, "number": written.number}

    @app.post("/undo")
    async def undo(taken: TakenBack) -> dict[str, Any]:
        who = taken.annotator or annotator
        return _state(desk, desk.undo(taken.window, taken.number, who))

    @app.post("/release", status_code=204)
    async def release(window: str = Query(max_length=100)) -> None:
        desk.release(window)

    return app


def _state(desk: Desk, question: Question | None) -> dict[str, Any]:
    return {
        "question": question.shown if question else None,
        "progress": desk.progress,
    }
