"""Removes secrets before anything is stored, by the name of a field and the form of a value.

Only text can be a secret: `max_tokens: 512`, `use_cls_token: true` and digests stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from qn_tracking.errors import storable
from qn_tracking.records.model import Config

MARK = "[redacted]"

_WORDS = (
    r"(?:api|access|private|secret|signing|encryption|account|ssh)[-_]?key"
    r"|(?:pg)?passw(?:or)?d|passphrase|pwd"
    r"|secret|credentials?|authorization|(?:auth|access|refresh|bearer|run|api|id)[-_]?token"
    r"|(?<!pad.)(?<!eos.)(?<!bos.)(?<!cls.)(?<!sep.)(?<!unk.)(?<!mask.)(?<!special.)token"
    r"|pat|dsn|jwt"
)
_KEY = re.compile(rf"(?:^|[-_. ])(?:{_WORDS})$", re.IGNORECASE)
# For these names even a number is a secret.
_PASSWORD = re.compile(r"(?:passw(?:or)?d|passphrase|pwd)$", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

# Text that is a secret anywhere, also next to a dash, an underscore or the letter of an option. A
# prefix that may end another word, as `sk-` ends `disk-`, must be at the start of a word.
_SHAPES = re.compile(
    r"""
      gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,} | glpat-[\w-]{16,}
    | (?:AKIA|ASIA)[0-9A-Z]{16} | xox[abeprs]-[A-Za-z0-9-]{10,} | hf_[A-Za-z0-9]{20,}
    | npm_[A-Za-z0-9]{20,} | pypi-[A-Za-z0-9_-]{20,} | AIza[0-9A-Za-z_-]{30,}
    | (?:(?<![A-Za-z0-9])|(?<=^-[A-Za-z])) (?:
        sk-(?:proj|svcacct|admin|ant)-[\w-]{20,} | sk-[A-Za-z0-9_]{20,}[\w-]*
      | [rs]k_(?:live|test)_[A-Za-z0-9]{10,}
      | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
      )
    | -----BEGIN[ A-Z]*PRIVATE[ ]KEY-----.*?(?:-----END[ A-Z]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
# Up to the last @, if there is a colon before it that is not a port: a password may contain both.
_USERINFO = re.compile(
    r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^/\s@:'\"<>]*:(?!\d+/)[^\s'\"<>]*|[^/\s@'\"<>]+)@"
)
_QUERY = re.compile(
    r"([?&](?:[\w.-]*(?:token|key|secret|password|signature|credential)|sig|auth)=)"
    r"[^&#\s'\"<>]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}")
_VARIABLE = re.compile(
    r"(\b[A-Z][A-Z0-9_]*(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PWD)=)(?!\s)[^\s'\"]+"
)
# KEY = "value", "key": "value", key: v4lue99. An unquoted value must have letters and
# digits, so that code such as `token: str` stays.
_ASSIGNED = re.compile(
    rf"""
    (?P<head>(?<![A-Za-z0-9])(?:\w*[-_.])?(?:{_WORDS})["']?\s*(?:[:=]|\s(?=["']))\s*)
    (?: (?P<quote>["'])(?P<quoted>[^"'\n]{{3,}})(?P=quote)
      | (?P<bare>(?=[^\s"',;)]*[A-Za-z])(?=[^\s"',;)]*[0-9])[^\s"',;()\[\]{{}}<>]{{6,}}) )
    """,
    re.VERBOSE | re.IGNORECASE,
)


def is_secret(key: str) -> bool:
    """Whether a field with this name contains a secret."""
    return bool(_KEY.search(_CAMEL.sub("_", key)))


def redact_text(text: str) -> str:
    """Return free text (an error, a patch, an argument) with its secrets replaced."""
    text = _SHAPES.sub(MARK, text)
    text = _USERINFO.sub(rf"\1{MARK}@", text)
    for pattern in (_QUERY, _BEARER, _VARIABLE):
        text = pattern.sub(rf"\1{MARK}", text)

    def mask(match: re.Match[str]) -> str:
        quote = match["quote"] or ""
        value = match["quoted"] or match["bare"]
        return match[0] if value == MARK else f"{match['head']}{quote}{MARK}{quote}"

    return _ASSIGNED.sub(mask, text)


def strip_url(url: str) -> str | None:
    """Return a URL without user name, password and query; None for a local path."""
    if ("://" not in url and not re.match(r"[^/\s]+:", url)) or url.startswith("file:"):
        return None
    url = _USERINFO.sub(r"\1", url)
    return redact_text(url.partition("?")[0])


def redact_value(value: Any, key: str = "") -> Any:
    """Return plain data with secret texts replaced, and numbers if they are a password."""
    if isinstance(value, Mapping):
        return {k: redact_value(item, k) for k, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_value(item, key) for item in value]
    if _is_secret_value(value, key):
        return MARK
    return redact_text(value) if isinstance(value, str) else value


def _is_secret_value(value: Any, key: str) -> bool:
    if isinstance(value, str):
        return bool(value) and is_secret(key)
    return type(value) in (int, float) and bool(_PASSWORD.search(key))


def redact_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return a command line without secrets, also in `--token X` and `--set a.password=x`.

    The program is reduced to its name, because its path may be private.
    """
    out = [redact_text(program.rpartition("/")[2]) for program in arguments[:1]]
    secret_next = False
    for given in arguments[1:]:
        # First by form, then by name: a value, or a name itself, may contain a secret.
        argument = redact_text(given)
        parts = argument.split("=")
        # --token=x, a.password=x, --set=a.password=x
        at = next((i for i, part in enumerate(parts[:-1]) if is_secret(part.lstrip("-"))), None)
        if secret_next and not argument.startswith("--"):
            out.append(MARK)
        elif at is not None and any(parts[at + 1 :]):
            out.append("=".join([*parts[: at + 1], MARK]))
        else:
            out.append(argument)
        secret_next = given.startswith("-") and "=" not in given and is_secret(given.lstrip("-"))
    # Last, because escapes could hide the start of a secret.
    return tuple(map(storable, out))


def redact_config(config: Config) -> Config:
    """Return the configuration without secrets; the digests stay those of the original."""
    text = config.text
    if _holds_secret(config.data) or _holds_secret(config.settings):
        for start, end in reversed(_secret_spans(text)):
            text = f"{text[:start]}'{MARK}'{text[end:]}"
    return evolve(
        config,
        label=storable(config.label),
        text=redact_text(text),
        data=redact_value(config.data),
        settings=redact_value(config.settings),
        overrides={
            field: redact_value(value, field.rpartition(".")[2])
            for field, value in config.overrides.items()
        },
    )


def _holds_secret(value: Any, key: str = "") -> bool:
    if isinstance(value, Mapping):
        return any(_holds_secret(item, name) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return any(_holds_secret(item, key) for item in value)
    return _is_secret_value(value, key)


def _secret_spans(text: str) -> list[tuple[int, int]]:
    """Return the spans of the values of secret fields in a YAML text, in order."""
    import yaml

    spans: list[tuple[int, int]] = []
    # For each open collection: whether it is a mapping, and the key that has no value yet.
    stack: list[list[Any]] = []

    def key_of(level: int) -> str:
        while level >= 0 and not stack[level][0]:
            level -= 1  # the items of a list belong to its key
        return (stack[level][1] or "") if level >= 0 else ""

    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.ScalarEvent):
            if stack and stack[-1][0] and stack[-1][1] is None:
                stack[-1][1] = event.value
                continue
            number = event.implicit[0] and event.value[:1].isdigit()
            value: Any = 1 if number else event.value
            if _is_secret_value(value, key_of(len(stack) - 1)):
                assert event.start_mark is not None
                assert event.end_mark is not None
                spans.append((event.start_mark.index, event.end_mark.index))
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            stack.append([isinstance(event, yaml.MappingStartEvent), None])
            continue
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            stack.pop()
        elif not isinstance(event, yaml.AliasEvent):
            continue
        if stack and stack[-1][0]:
            stack[-1][1] = None
    return spans
