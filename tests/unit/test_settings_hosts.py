"""Which hosts and URLs an endpoint may have, which parameters a Redis URL, and the content of a header."""

from __future__ import annotations

import pytest

from rlm.settings.addresses import check_endpoint_url, check_host, check_redis_url
from rlm.settings.values import check_header_text
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
    """Names and addresses are taken, in the one spelling that the window belongs to."""
    assert check_endpoint_url(url) == kept


@each(
    ("url", "problem"),
    [
        ("http://2130706433/", "four decimal numbers"),
        ("http://0x7f000001/", "four decimal numbers"),
        ("http://0x7f.1/", "four decimal numbers"),
        ("http://127.1/", "four decimal numbers"),
        ("http://0177.0.0.1/", "four decimal numbers"),
        ("http://127.0.0.1./", "with a dot"),
        ("http://api.example.com./", "with a dot"),
        ("http://[::ffff:127.0.0.1]/", "write 127.0.0.1"),
        ("http://[::ffff:7f00:1]/", "write 127.0.0.1"),
        ("http://[::127.0.0.1]/", "write 127.0.0.1"),
        ("http://[::7f00:1]/", "write 127.0.0.1"),
        ("http://[::0.0.0.2]/", "write 0.0.0.2"),
        ("http://[::ffff:0:10.0.0.5]/", "write 10.0.0.5"),
        ("http://0.0.0.0/", "no server"),
        ("http://[::]/", "no server"),
        ("http://[fe80::1%25eth0]/", "zone"),
        ("http://[1::2::3]/", "IPv6|no URL"),
        ("http://[v1.x]/", "IPv6|no URL|name of letters"),
        ("http://bücher.example/", "printable ASCII"),
        ("http://a..b/", "name of letters"),
        ("http://-a.example/", "name of letters"),
        ("http://a%2eexample/", "name of letters"),
        ("http://a\\b/", "name of letters"),
        ("http://" + "a" * 64 + "/", "name of letters"),
        ("http://" + "a." * 127 + "aa/", "name of letters"),
        ("http://user@h/", "user or password"),
        ("http://h/#x", "fragment"),
        ("ftp://h/", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("javascript:alert(1)", "http:// or https://"),
        ("http://h/\r\nX: y", "printable ASCII"),
        ("http://h/" + "x" * 8000, "at most 8000"),
        ("http://h:99999/", "port"),
    ],
)
def test_another_spelling_or_scheme_is_refused(url, problem):
    """What would be a second window of the same server, or hides where it leads, is a fault."""
    with pytest.raises(ValueError, match=problem):
        check_endpoint_url(url)


def test_a_host_of_any_characters_is_one_of_the_three_kinds_or_refused():
    """No character but those of the rule gets into a host."""
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
        *("redis://h/", "redis://h/15", "redis://h?db=3"),
        "redis+sentinel://u:p@h1:1,h2:2/main/0",
        "redis+sentinel://u:p@h1/main?sentinel_username=s&sentinel_password=p&sentinel_tls=yes&ssl_ca_certs=/ca.pem",
        "rediss+sentinel://u:p@h1:1,h2:2/main/0?ssl_ca_certs=/ca.pem&socket_timeout=2",
        "rediss+sentinel://h1/main?sentinel_tls=no",
    ],
)
def test_a_redis_url_says_where_and_who(url):
    """Place, login, certificates and time-outs may stand in it; a Unix socket may have a login too."""
    assert check_redis_url(url) == url


@each(
    "parameter",
    [
        *("ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_check_hostname=false", "ssl_exclude_verify_flags=x"),
        *("decode_responses=1", "protocol=3", "retry_on_timeout=1", "health_check_interval=1", "nonsense=1", "host=x"),
    ],
)
def test_no_parameter_of_a_redis_url_turns_anything_off(parameter):
    """Neither the check of certificates, nor what RLM relies on: that a command is sent once, and how replies look."""
    with pytest.raises(ValueError, match=r"always checked|no others"):
        check_redis_url(f"rediss://h/0?{parameter}")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://h?ssl_ca_certs=/ca.pem", "no others"),
        ("redis+sentinel://h/main?ssl_ca_certs=/ca.pem", "no others"),
        ("redis+sentinel://h/main?sentinel_tls=maybe", "yes or no"),
        ("rediss+sentinel://h/main?ssl_cert_reqs=none", "always checked"),
        ("unix://host/path", "whole path"),
        ("unix://socket", "whole path"),
        *[(f"redis://h/{database}", "whole number") for database in ("x", "1.5", "2/3", "-1", "+1", "%31", "1e1")],
        *[
            (f"{url}?db={text}", "whole number")
            for url in ("redis://h", "unix:///p")
            for text in ("x", "-1", "", "1.0")
        ],
        *[
            (f"redis://h?socket_timeout={text}", "seconds above 0")
            for text in ("abc", "0", "-1", "inf", "nan", "", "1e3")
        ],
        ("rediss://h?socket_connect_timeout=x", "seconds above 0"),
        ("redis+sentinel://h/main/x", "whole number"),
        ("redis+sentinel://h/main/2/3", "whole number"),
        ("redis+sentinel://h/main?socket_timeout=x", "seconds above 0"),
        ("redis+sentinel://h", "a service"),
        *[(f"redis+sentinel://u:p@h1:1,h2:{port}/main", "the port must be") for port in ("x", "0", "65536", "1.5")],
        ("rediss+sentinel://h1:one/main?ssl_ca_certs=/ca.pem", "the port must be"),
        *[(f"redis+sentinel://{hosts}/main", "each sentinel is a host") for hosts in ("h1,", ",h2", ":1", "h1,:2")],
    ],
)
def test_a_redis_url_that_would_not_mean_what_it_seems_to_is_refused(url, problem):
    """Certificates without TLS, a host for a Unix socket, a database or a time-out that is no number."""
    with pytest.raises(ValueError, match=problem):
        check_redis_url(url)


@each("text", ["a\r\nb", "a\nb", "a\rb", "a\0b", "a\x1bb", "a\x7fb", "\u20ac", "x" * 8001])
def test_a_header_that_http_would_not_take_is_refused_before_any_slot(text):
    """Line breaks, NUL, other controls, text beyond Latin-1, and too much of it."""
    with pytest.raises(ValueError, match="a header's value"):
        check_header_text(text)


def test_a_tab_and_latin_1_pass():
    """As HTTP has it."""
    assert check_header_text("a\tb \xe4") == "a\tb \xe4"
