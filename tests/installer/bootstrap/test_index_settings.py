"""pip's settings in uv's words; what the user told uv wins."""

from __future__ import annotations

from installer.bootstrap.index_settings import parse_pip_config, uv_settings

INDEX = "https://mirror.example/simple"


def test_pips_own_output_is_read() -> None:
    lines = [
        ":env:.find-links='/srv/wheels'",
        "global.index-url='https://user:it''s@mirror.example/simple'",
        "global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'",
        "global.find-links='/overridden'",
        "install.timeout='30'",
        "global.timeout='15'",
        "list.format='columns'",
        "WARNING: something else = here",
        "global.broken='unterminated",
        "",
    ]
    assert parse_pip_config(lines) == {
        "find-links": "/srv/wheels",
        "index-url": "https://user:its@mirror.example/simple",
        "extra-index-url": "https://a.example/simple\nhttps://b.example/simple",
        "timeout": "30",
    }


def test_a_mirror_is_passed_on() -> None:
    assert uv_settings({}, {"index-url": INDEX}, has_uv_config=False).environ == {"UV_DEFAULT_INDEX": INDEX}


def test_several_indexes_are_searched_as_pip_does() -> None:
    settings = uv_settings({}, {"extra-index-url": f"{INDEX}\nfile:///srv/simple"}, has_uv_config=False)
    assert settings.environ == {
        "UV_INDEX": f"{INDEX} file:///srv/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_wheels_in_folders_and_no_index() -> None:
    settings = uv_settings({}, {"find-links": "/srv/a\n/srv/b", "no-index": "true"}, has_uv_config=False)
    assert settings.environ == {"UV_FIND_LINKS": "/srv/a,/srv/b"}
    assert settings.flags == ("--no-index",)


def test_what_the_user_told_uv_wins() -> None:
    pip = {"index-url": INDEX, "find-links": "/srv/a", "cert": "/pip.pem"}
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_CONFIG_FILE"):
        assert uv_settings({name: "theirs"}, pip, has_uv_config=False).environ == {"SSL_CERT_FILE": "/pip.pem"}
    assert uv_settings({"SSL_CERT_FILE": "/own.pem"}, pip, has_uv_config=True).environ == {}


def test_proxy_certificate_and_patience_are_passed_on() -> None:
    pip = {"proxy": "http://proxy.example:3128", "cert": "/ca.pem", "timeout": "60", "trusted-host": "a\nb"}
    assert uv_settings({}, pip, has_uv_config=True).environ == {
        "ALL_PROXY": "http://proxy.example:3128",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_HTTP_TIMEOUT": "60",
        "UV_INSECURE_HOST": "a b",
    }
    assert "ALL_PROXY" not in uv_settings({"https_proxy": "http://other"}, pip, has_uv_config=True).environ


def test_nothing_set_adds_nothing() -> None:
    assert uv_settings({}, {}, has_uv_config=False).environ == {}
