"""Secrets out, before anything is stored: by the name of the field and by the shape of the value.

Only text is ever a secret: `max_tokens: 512` and `use_cls_token: true` stay, and so do digests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from qn_tracking.model import Config

MARK = "[redacted]"

_WORDS = (
    r"(?:api|access|private|secret|signing|encryption|account)[-_]?key|passw(?:or)?d|passphrase"
    r"|secret|credentials?|authorization|(?:auth|access|refresh|bearer|session|api|id)[-_]?token"
    r"|token|pat|dsn"
)
_KEY = re.compile(rf"(?:^|[-_. ])(?:{_WORDS})s?$", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

# Text that is a secret wherever it stands.
_SHAPES = re.compile(
    r"""
      \bgh[pousr]_[A-Za-z0-9]{20,}\b | \bgithub_pat_[A-Za-z0-9_]{20,}\b | \bglpat-[\w-]{16,}
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b | \bxox[abeprs]-[A-Za-z0-9-]{10,} | \bhf_[A-Za-z0-9]{20,}\b
    | \bsk-[A-Za-z0-9_-]{20,} | \bpypi-[A-Za-z0-9_-]{20,} | \bAIza[0-9A-Za-z_-]{30,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
    | -----BEGIN[ A-Z]*PRIVATE[ ]KEY-----.*?(?:-----END[ A-Z]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
_USERINFO = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@'\"<>]+@")
_QUERY = re.compile(
    r"([?&](?:[\w.-]*(?:token|key|secret|password|signature|credential)|sig|auth|code)=)"
    r"[^&#\s'\"<>]+",
    re.IGNORECASE,
)
# KEY = "value", "key": "value", key: v4lue99, `Authorization: Bearer …`, and --key value. An
# unquoted value counts if letters and digits mix in it, so that code such as `token: str` stays.
_ASSIGNED = re.compile(
    rf"""
    (?P<head>(?<![A-Za-z0-9])(?:\w*[-_.])?(?:{_WORDS})s?["']?\s*(?:[:=]|\s(?=["']))\s*
        (?:(?:Bearer|Basic|Token)\s+)?)
    (?: (?P<quote>["'])(?P<quoted>[^"'\n]{{3,}})(?P=quote)
      | (?P<bare>(?=[^\s"',;)]*[A-Za-z])(?=[^\s"',;)]*[0-9])[^\s"',;()\[\]{{}}]{{6,}}) )
    """,
    re.VERBOSE | re.IGNORECASE,
)


def is_secret(key: str) -> bool:
    """Whether a field of this name would hold a secret."""
    return bool(_KEY.search(_CAMEL.sub("_", key)))


def redact_text(text: str) -> str:
    """Free text (an error, a patch, an argument) with its secrets replaced."""
    text = _SHAPES.sub(MARK, text)
    text = _USERINFO.sub(rf"\1{MARK}@", text)
    text = _QUERY.sub(rf"\1{MARK}", text)

    def mask(match: re.Match[str]) -> str:
        quote = match["quote"] or ""
        value = match["quoted"] or match["bare"]
        return match[0] if value == MARK else f"{match['head']}{quote}{MARK}{quote}"

    return _ASSIGNED.sub(mask, text)


def strip_url(url: str) -> str:
    """A remote's URL without user name, password and query."""
    url = _USERINFO.sub(r"\1", url)
    return redact_text(url.partition("?")[0])


def redact_value(value: Any, key: str = "") -> Any:
    """Plain data with secret texts replaced; numbers and booleans are never secrets."""
    if isinstance(value, Mapping):
        return {k: redact_value(item, k) for k, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_value(item, key) for item in value]
    if isinstance(value, str):
        return MARK if value and is_secret(key) else redact_text(value)
    return value


def redact_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """A command line with its secrets replaced, `--token X` and `--set a.password=x` included.

    Of the program only its name is kept: where it is installed is nobody's business.
    """
    out = [program.rpartition("/")[2] for program in arguments[:1]]
    secret_next = False
    for argument in arguments[1:]:
        name, equals, value = argument.partition("=")
        if secret_next and not argument.startswith("-"):
            out.append(MARK)
        elif equals and value and is_secret(name.lstrip("-")):
            out.append(f"{name}={MARK}")
        else:
            out.append(redact_text(argument))
        secret_next = argument.startswith("-") and not equals and is_secret(argument.lstrip("-"))
    return tuple(out)


def redact_config(config: Config) -> Config:
    """The configuration as it may be stored; its digests stay those of the original."""
    secrets: set[str] = set()
    _collect(config.data, "", secrets)
    _collect(config.settings, "", secrets)
    text = redact_text(config.text)
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MARK)
    return evolve(
        config,
        text=text,
        data=redact_value(config.data),
        settings=redact_value(config.settings),
        overrides={
            field: redact_value(value, field.rpartition(".")[2])
            for field, value in config.overrides.items()
        },
    )


def _collect(value: Any, key: str, secrets: set[str]) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _collect(item, name, secrets)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _collect(item, key, secrets)
    elif isinstance(value, str) and value and is_secret(key):
        secrets.add(value)
