"""No secret that RLM sends gets into what it keeps, in whatever encoding an endpoint echoes it."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.endpoint import Endpoint, Limit
from rlm.settings.secrets import MASK, Secrets, secrets_of_call
from tests.each import each

SECRET = "s3cr3t/ä+\"of&<the'house>"
FORMS = {
    "plain": str,
    "UTF-8 on the wire": lambda text: text.encode().decode("latin-1"),
    "path": quote,
    "parameter": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "lower hex": lambda text: "".join(
        f"%{byte:02x}" if byte > 127 or chr(byte) in "/+\"&<'>" else chr(byte) for byte in text.encode()
    ),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1].encode().decode("latin-1"),
    "Latin-1 parameter": lambda text: quote(text, safe="", encoding="latin-1"),
    "HTML": html.escape,
    "HTML text": lambda text: html.escape(text, quote=False),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
}


def endpoint(url="http://api.test/x", **headers):
    return Endpoint("api", url, Limit.parse("30/minute"), 10.0, headers)


@each("written", FORMS.values())
def test_a_secret_is_found_in_each_form(written):
    """Whatever way a text came to hold it, nothing of it is left."""
    shown = Secrets({SECRET}).hide(f"before {written(SECRET)} after")

    assert shown.rstrip("=").startswith(f"before {MASK}")
    assert shown.endswith(" after")
    assert len(shown) <= len(f"before {MASK}== after")


@each(
    ("headers", "sent", "expected"),
    [
        ({"Authorization": "env:A"}, "Bearer abc-def", {"Bearer abc-def", "abc-def"}),
        ({"Authorization": "Bearer abc-def"}, None, {"Bearer abc-def", "abc-def"}),
        ({"X-Tenant": "env:A"}, "blue-and-green", {"blue-and-green"}),
        ({"X-Tenant": "blue-and-green"}, None, set()),
        ({"X-Api-Key": "k-123456"}, None, {"k-123456"}),
        ({"X-Flag": "env:A"}, "yes", set()),
        (
            {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="},
            None,
            {"Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA", "user:password", "password"},
        ),
        (
            {"Cookie": "sid=0123456789; lang=en"},
            None,
            {"sid=0123456789; lang=en", "lang=en", "0123456789"},
        ),
    ],
)
def test_what_is_secret_of_a_header(headers, sent, expected):
    """What came from the environment, what a telling name holds, and its parts; not what is too short to be one."""
    values = {name: sent or value for name, value in headers.items()}

    assert secrets_of_call(endpoint(**headers), values) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://api.test/?api_key=k%2F1", {"k%2F1"}),
        ("http://api.test/?api_key=k%2F123", {"k/123", "k%2F123"}),
        ("http://api.test/?x=1&y=0123456789", {"0123456789"}),
        ("http://api.test/?key=pass+word", {"pass+word", "pass word"}),
        ("http://api.test/path/0123456789", set()),
    ],
)
def test_what_is_secret_of_a_url(url, expected):
    """What parameters hold that have a telling name, and what is long enough to be a secret."""
    assert secrets_of_call(endpoint(url), {}) == expected


def test_of_a_torn_text_the_end_goes_as_well():
    """It may end within a secret, which is no longer to be found there."""
    whole = "x" * 100 + SECRET * 3
    for end in range(100, len(whole)):
        shown = Secrets({SECRET}).hide(whole[:end], torn=True)

        assert SECRET[:3] not in shown


@given(st.text(), st.sets(st.text(min_size=4)))
def test_any_text_and_any_secrets_are_taken(text, secrets):
    """Nothing is an error, and no secret is left unless masking itself wrote it."""
    shown = Secrets(secrets, shortest=4).hide(text)

    assert not [one for one in secrets if one in shown and "*" not in one]
