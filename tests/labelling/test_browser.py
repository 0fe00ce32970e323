"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import os
import shutil
import socket
import threading

import pytest
import uvicorn

from ser_kedro.labelling.server import create_app
from ser_kedro.preferences.schema import Pair
from ser_kedro.preferences.source import PreferenceSource
from tests.labelling.conftest import PLANTED

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium here (apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="no Playwright here (pip install playwright)"
)


@pytest.fixture
def serve(open_desk):
    """Serve the page as ``ser-kedro label`` does, on a free port; say where."""
    ends = []

    def make(count):
        app = create_app(open_desk(count=count), "s3cret", "ann")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        listening = socket.create_server(("127.0.0.1", 0))
        run = {"target": server.run, "kwargs": {"sockets": [listening]}}
        thread = threading.Thread(**run, daemon=True)
        thread.start()
        ends.append((server, thread, listening))
        return f"http://127.0.0.1:{listening.getsockname()[1]}/?token=s3cret"

    yield make
    for server, thread, listening in ends:
        server.should_exit = True
        thread.join(10)
        listening.close()


@pytest.fixture
def browser():
    # The sandbox of Chromium does not work for root, who often runs tests.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield opened
        opened.close()


def open_window(browser, address):
    page = browser.new_context().new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: m.type == "error" and errors.append(m.text))
    page.goto(address)
    page.wait_for_selector("#question:not([hidden])")
    return page, errors


def shown(page):
    return [page.inner_text(part) for part in ("#prompt p", "#first", "#second")]


def press(page, key, count):
    page.keyboard.press(key)
    page.wait_for_function(
        "text => document.getElementById('count').textContent === text", arg=count
    )
    page.wait_for_function("() => !busy")


def test_fifty_labels_by_keys_are_read_by_the_next_run(browser, serve, rows, file):
    address = serve(60)
    page, errors = open_window(browser, address)
    other, _ = open_window(browser, address)
    # Text is text: what is planted in every answer b is seen and does not run.
    assert PLANTED in "".join(shown(page))
    assert page.query_selector("#question img, #question script") is None
    assert page.title() == "Which answer is better?"
    # Two windows show two pairs.
    assert shown(page)[0] != shown(other)[0]
    other.close()

    first = shown(page)
    press(page, "2", "1 of 60")
    press(page, "u", "0 of 60")
    assert shown(page) == first
    press(page, "t", "1 of 60")
    press(page, "s", "2 of 60")
    # A reload goes on, and still knows what can be taken back.
    page.reload()
    page.wait_for_selector("#question:not([hidden])")
    press(page, "u", "1 of 60")
    press(page, "S", "2 of 60")
    best = {row["response_a"] for row in rows}
    for done in range(3, 53):
        press(page, "1" if shown(page)[1] in best else "2", f"{done} of 60")
    assert errors == []

    items = list(PreferenceSource(path=str(file)).pairs("train"))
    pairs = [item for item in items if isinstance(item, Pair)]
    assert len(pairs) == 50 and len(items) == 51  # and the tie
    assert {pair.chosen for pair in pairs} <= best
    assert {pair.pair_id for pair in pairs} <= {row["pair_id"] for row in rows}


def test_waiting_the_end_and_a_token_that_is_wrong(browser, serve):
    address = serve(2)
    page, _ = open_window(browser, address)
    other, _ = open_window(browser, address)
    press(page, "1", "1 of 2")
    assert "open in other windows" in page.inner_text("#note")
    other.click("button[data-choice=tie]")
    other.wait_for_function("() => !busy")
    end = "All pairs are labelled. You can close this window."
    assert other.inner_text("#note") == end
    page.reload()
    page.wait_for_function(
        "text => document.getElementById('note').textContent === text", arg=end
    )
    page.goto(address.replace("s3cret", "other"))
    assert "token is missing or wrong" in page.inner_text("body")
