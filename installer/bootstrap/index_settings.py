"""The user's package index, proxy and certificate settings, passed on from pip to uv.

pip makes the environment's first step and reads its own configuration files; uv reads none of them. Without this
translation a machine behind a company's mirror would get through the first step and hang in the second. What the user
set for uv itself always wins. Sources: pip's "Configuration" and uv's "Environment variables" reference pages.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_INDEX_VARIABLES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_CONFIG_FILE",
)
_SECTIONS = ("global", "install", ":env:")
"""pip's sections that hold for `pip install`, the stronger ones last."""


@dataclass(frozen=True, slots=True)
class UvSettings:
    """What to add for uv: environment variables and flags (for the one setting that has no variable)."""

    environ: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def parse_pip_config(lines: Iterable[str]) -> dict[str, str]:
    """Read the output of `pip config list`: lines such as `global.index-url='https://...'`.

    Returns the settings in force for `pip install`, by pip's own precedence. Lines of another form are passed over:
    pip prints warnings among them.
    """
    by_section: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in lines:
        key, separator, quoted = line.strip().partition("=")
        section, dot, name = key.rpartition(".")
        if not (separator and dot) or section not in by_section:
            continue
        try:
            value = ast.literal_eval(quoted)
        except (ValueError, SyntaxError):
            continue
        if isinstance(value, str) and value.strip():
            by_section[section][name] = value.strip()
    merged: dict[str, str] = {}
    for section in _SECTIONS:
        merged.update(by_section[section])
    return merged


def uv_settings(environ: Mapping[str, str], pip_config: Mapping[str, str], has_uv_config: bool) -> UvSettings:
    """uv's form of `pip_config`, leaving alone whatever `environ` already says to uv.

    `has_uv_config` tells that the user keeps a uv.toml: its indexes are then in force and pip's are not passed on.
    """
    added: dict[str, str] = {}
    flags: list[str] = []
    if not has_uv_config and not any(environ.get(name) for name in _INDEX_VARIABLES):
        if index := pip_config.get("index-url"):
            added["UV_DEFAULT_INDEX"] = index
        if extra := pip_config.get("extra-index-url", "").split():
            added["UV_INDEX"] = " ".join(extra)
            if not environ.get("UV_INDEX_STRATEGY"):
                # pip takes the pinned version from whichever index has it, and so must uv. Every file is checked
                # against a hash in the repository, so that no index can slip in another one.
                added["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        if links := pip_config.get("find-links", "").split():
            added["UV_FIND_LINKS"] = ",".join(links)
        if pip_config.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
            flags.append("--no-index")
    simple = (("cert", "SSL_CERT_FILE"), ("trusted-host", "UV_INSECURE_HOST"), ("timeout", "UV_HTTP_TIMEOUT"))
    for name, variable in simple:
        value = " ".join(pip_config.get(name, "").split())
        if value and not environ.get(variable):
            added[variable] = value
    proxy = pip_config.get("proxy")
    proxy_variables = ("ALL_PROXY", "HTTPS_PROXY", "all_proxy", "https_proxy")
    if proxy and not any(environ.get(name) for name in proxy_variables):
        added["ALL_PROXY"] = proxy
    return UvSettings(added, tuple(flags))
