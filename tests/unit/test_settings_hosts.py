"""Which hosts and URLs an endpoint may have, which parameters a Redis URL, and the content of a header."""

from __future__ import annotations

import pytest

from rlm.settings.model import check_endpoint_url, check_headers, check_host, check_redis_url
from tests.each import each


@each(
    ("url", "kept"),
    [
        ("http://Api.Example.com", "http://api.example.com/"),
        ("http://my_api:8080/x", "http://my_api:8080/x"),
        ("http://127.0.0.1:8090/x?y=1", "http://127.0.0.1:8090/x?y=1"),
        ("https://[2001:DB8:0:0::1]:443/", "https://[2001:db8::1]/"),
        ("http://[::1]:8090/", "http://[::1]:8090/"),
        ("http://[64:FF9B::10.0.0.5]/", "http://[64:ff9b::a00:5]/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("http://4you.example/", "http://4you.example/"),
    ],
)
def test_each_host_has_one_spelling(url, kept):
    assert check_endpoint_url(url) == kept


@each(
    "url",
    [
        *(f"http://{host}/" for host in ("2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1.")),
        *(f"http://[{host}]/" for host in ("::ffff:127.0.0.1", "::127.0.0.1", "::7f00:1", "::ffff:0:10.0.0.5", "::")),
        *(f"http://[{host}]/" for host in ("fe80::1%25eth0", "1::2::3", "v1.x", "127.0.0.1", "a")),
        *(f"http://{host}/" for host in ("api.example.com.", "0.0.0.0", "bücher.example", "a..b", "-a.example")),
        *(
            f"http://{host}/"
            for host in ("a%2eexample", "a\\b", "a" * 64, "a." * 127 + "aa", "user@h", "h:99999", "::1")
        ),
        *("http://h/#x", "ftp://h/", "file:///etc/passwd", "javascript:alert(1)", "http://h/\r\nX: y"),
        "http://h/" + "x" * 8000,
    ],
)
def test_another_spelling_or_scheme_is_refused(url):
    with pytest.raises(ValueError):
        check_endpoint_url(url)


def test_a_host_of_any_characters_is_one_of_the_three_kinds_or_refused():
    for code in (*range(0x21), *range(0x7F, 0x100), *map(ord, "!\"#$%&'()*+,/;<=>?@[\\]^`{|}~")):
        with pytest.raises(ValueError):
            check_host(f"a{chr(code)}b")


@each(
    "url",
    [
        "unix://rlm:pw@/run/redis.sock",
        "unix://rlm:pw@/run/redis.sock?db=2",
        "unix:///run/redis.sock?username=u&password=p",
        "rediss://u:p@h:6379/1?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_password=p",
        "redis://h?socket_timeout=2.5&socket_connect_timeout=1",
        *("redis://h/", "redis://h/15", "redis://h?db=3", "redis://:6379/0", "redis://[::1]:6379/0", "redis://u:p@w@h"),
        "redis+sentinel://u:p@h1:1,h2:2/main/0",
        "redis+sentinel://u:p@h1/main?sentinel_username=s&sentinel_password=p",
        "rediss+sentinel://u:p@h1:1,h2:2/main/0?ssl_ca_certs=/ca.pem&socket_timeout=2",
    ],
)
def test_a_redis_url_says_where_and_who(url):
    assert check_redis_url(url) == url


@each(
    "url",
    [
        *(
            f"rediss://h/0?ssl_{switch}"
            for switch in ("cert_reqs=none", "check_hostname=false", "exclude_verify_flags=x")
        ),
        *(f"rediss://h/0?{other}" for other in ("decode_responses=1", "protocol=3", "retry_on_timeout=1", "host=x")),
        *("redis://h?ssl_ca_certs=/ca.pem", "redis+sentinel://h/main?ssl_ca_certs=/ca.pem"),
        *("rediss+sentinel://h/main?ssl_cert_reqs=none", "unix:///socket#password=x"),
        *("unix://host/path", "unix://socket", "redis+sentinel://h", "redis+sentinel://h/main/2/3"),
        *(f"redis://h/{database}" for database in ("x", "1.5", "2/3", "-1", "+1", "%31", "1e1")),
        *(f"{url}?db={text}" for url in ("redis://h", "unix:///p") for text in ("x", "-1", "", "1.0")),
        *(f"redis://h?socket_timeout={text}" for text in ("abc", "0", "0.0", "-1", "inf", "nan", "", "1e3")),
        *(f"redis+sentinel://u:p@h1:1,h2:{port}/main" for port in ("x", "0", "65536", "1.5")),
        *(f"redis+sentinel://{hosts}/main" for hosts in ("h1,", ",h2", ":1", "h1,:2")),
    ],
)
def test_a_redis_url_that_would_not_mean_what_it_seems_to_is_refused(url):
    with pytest.raises(ValueError):
        check_redis_url(url)


@each("text", ["a\r\nb", "a\nb", "a\rb", "a\0b", "a\x1bb", "a\x7fb", "\u20ac", "x" * 8001])
def test_a_header_that_http_would_not_take_is_refused_before_any_slot(text):
    with pytest.raises(ValueError, match="a header is"):
        check_headers({"X": text}, {})


def test_a_tab_and_latin_1_pass():
    check_headers({"X": "a\tb \xe4"}, {})
