"""What messages never show."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_kedro.errors import DataError, without_secrets

SECRET = "Sw0rdf1sh-0123"
WORDS = st.text(st.characters(blacklist_categories=("Cs",)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"ftp://ann:{SECRET}@host/x: gone", "ftp://ann:***@host/x: gone"),
        (f"s3://:{SECRET}@host", "s3://:***@host"),
        (f"'https://h/x?token={SECRET}'", "'https://h/x?token=***'"),
        (f"https://h/x?a=1&api_key={SECRET}&b=2", "https://h/x?a=1&api_key=***&b=2"),
        (
            f"https://h/x?X-Amz-Signature={SECRET} now",
            "https://h/x?X-Amz-Signature=*** now",
        ),
        (f"https://h/x?sig={SECRET}", "https://h/x?sig=***"),
    ],
)
def test_secrets_in_addresses_are_masked(text, shown):
    assert without_secrets(text) == shown
    error = pickle.loads(pickle.dumps(DataError(text)))
    assert str(error) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mailto:ann@host",
        "a: b@c",
        "hub://owner/name?split=train",
        "http://h:80/x",
        "10:30",
    ],
)
def test_all_else_stays(text):
    assert without_secrets(text) == text


@given(WORDS, WORDS)
def test_whatever_stands_beside_it(before, after):
    shown = without_secrets(f"{before}ftp://ann:{SECRET}@host {after}")
    assert SECRET not in shown
    assert without_secrets(shown) == shown
