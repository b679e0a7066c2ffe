"""Removes secrets before anything is stored, by the name of a field and the form of a value.

Only text can be a secret: `max_tokens: 512`, `use_cls_token: true` and digests stay. So does
`start_token: <s>`: most names that end in `token` are of language models, where only what looks
like a key is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

from attrs import evolve

from qn_tracking.errors import storable
from qn_tracking.records.model import Config

MARK = "[redacted]"

# Any text under these names is a secret.
_CERTAIN = (
    r"(?:api|access|private|secret|signing|encryption|account|ssh)[-_]?key"
    r"|(?:pg)?passw(?:or)?d|passphrase|pwd"
    r"|secrets?|credentials?|authorization|cookies?|(?:auth|access|refresh|bearer|api)[-_]?token"
    r"|(?<![\w-])token|dsn|jwt"
)
# Under these, what looks like one.
_WORDS = (
    rf"{_CERTAIN}|(?:run|id)[-_]?token"
    r"|(?<!pad.)(?<!eos.)(?<!bos.)(?<!cls.)(?<!sep.)(?<!unk.)(?<!mask.)(?<!special.)token|pat"
)
_KEY = re.compile(rf"(?:^|[-_. ])(?:{_WORDS})$", re.IGNORECASE)
_CERTAIN_KEY = re.compile(rf"(?:^|[-_. ])(?:{_CERTAIN})$", re.IGNORECASE)
# For these names even a number is a secret.
_PASSWORD = re.compile(r"(?:passw(?:or)?d|passphrase|pwd)$", re.IGNORECASE)
# What is inside of these has their name.
_HOLDER = re.compile(r"(?:^|[-_. ])(?:secrets|credentials?|cookies?)$", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_REFERENCE = re.compile(r"\$\w+|\$?\{[^{}]*\}|\{\{[^{}]*\}\}|\[redacted\]")
_NO_SECRET = re.compile(
    r"[-+]?[0-9.]{0,12}|none|null|true|false|yes|no|</?[^<>]*>|\[[^\[\]]*\]", re.IGNORECASE
)
_ORDINARY = re.compile(r"[0-9]{0,12}|[0-9]{0,4}[^\W\d_]{0,20}[0-9]{0,4}")

# Text that is a secret anywhere, also next to a dash, an underscore or the letter of an option. A
# prefix that may end another word, as `sk-` ends `disk-`, must be at the start of a word.
_SHAPES = re.compile(
    r"""
      gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}
    | gl(?:pat|dt|rt|cbt|ptt|soat)-[\w-]{16,}
    | (?:AKIA|ASIA)[0-9A-Z]{16} | xox[abeprs]-[A-Za-z0-9-]{10,} | hf_[A-Za-z0-9]{20,}
    | npm_[A-Za-z0-9]{20,} | pypi-[A-Za-z0-9_-]{20,} | AIza[0-9A-Za-z_-]{30,}
    | (?:dckr_pat_|nvapi-|GOCSPX-|ya29\.|lsv2_[ps][kt]_|glsa_|figd_|shp(?:at|ca|pa|ss)_|whsec_
        |tskey-|xapp-|dop_v1_|wandb_v1_|ATATT3|AGE-SECRET-KEY-) [\w.-]{20,}
    | hooks\.slack\.com/services/[\w/-]{20,} | discord(?:app)?\.com/api/webhooks/[\w/-]{20,}
    | (?:(?<![A-Za-z0-9])|(?<=^-[A-Za-z])) (?:
        gsk_[A-Za-z0-9]{40,} | r8_[A-Za-z0-9]{30,} | (?:xai|pplx)-[A-Za-z0-9]{40,}
      | dapi[0-9a-f]{32} | SG\.[\w-]{16,}\.[\w-]{16,} | hv[bs]\.[\w-]{20,}
      | eyJhcGlf[A-Za-z0-9+/_-]{30,}=*
      | sk-(?:proj|svcacct|admin|ant)-[\w-]{20,} | sk-[A-Za-z0-9_]{20,}[\w-]*
      | [rs]k_(?:live|test)_[A-Za-z0-9]{10,}
      | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
      )
    | -----BEGIN[ A-Z]*PRIVATE[ ]KEY-----.*?(?:-----END[ A-Z]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
# Up to the last @, if there is a colon before it that is not a port: a password may contain both.
_USERINFO = re.compile(
    r"(\b[a-zA-Z][a-zA-Z0-9+.-]{0,30}://)"
    r"(?:[^/\s@:'\"<>]{0,1000}:(?!\d+/)[^\s'\"<>]{0,1000}|[^/\s@'\"<>]{1,1000})@"
)
_QUERY = re.compile(
    r"([?&](?:[\w.-]*(?:token|key|secret|password|signature|credential)|sig|auth)=)"
    r"[^&#\s'\"<>]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}")
_VARIABLE = re.compile(
    r"\b(?P<name>[A-Z][A-Z0-9_]*(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PWD))=(?!\s)(?P<bare>[^\s'\"]+)"
)
_COOKIE = re.compile(
    r"((?<![A-Za-z0-9])(?:set-)?cookie[\"']?\s*[:=]\s*[\"']?)[^\s=;:\"']+=[^\r\n\"']+",
    re.IGNORECASE,
)
# KEY = "value", "key": "value", key: v4lue99. An unquoted value must have letters and
# digits, so that code such as `token: str` stays.
_ASSIGNED = re.compile(
    rf"""
    (?P<head>(?P<name>(?:(?<!\w)\w{{0,60}}[-_.]|(?<![A-Za-z0-9]))(?:{_WORDS}))["']?\s*(?:[:=]|\s(?=["']))\s*)
    (?: (?P<quote>["'])(?P<quoted>[^"'\n]{{3,}})(?P=quote)
      | (?P<bare>(?=[^\s"',;)]*[A-Za-z])(?=[^\s"',;)]*[0-9])[^\s"',;()\[\]{{}}<>]{{6,}}) )
    """,
    re.VERBOSE | re.IGNORECASE,
)

# Without one of these no pattern matches: as they are written, and in any case if something follows
# that makes the word a name.
_EXACT = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "AKIA", "ASIA", "xox"),
    *("gldt-", "glrt-", "glcbt-", "glptt-", "glsoat-", "dckr_pat_", "nvapi-", "GOCSPX-", "ya29."),
    *("lsv2_", "glsa_", "figd_", "shpat_", "shpca_", "shppa_", "shpss_", "whsec_", "tskey-"),
    *("xapp-", "dop_v1_", "wandb_v1_", "ATATT3", "AGE-SECRET-KEY-"),
    *("hooks.slack.com/", "/webhooks/"),
    *("gsk_", "r8_", "xai-", "pplx-", "dapi", "SG.", "hvb.", "hvs."),
    *("hf_", "npm_", "pypi-", "AIza", "sk-", "sk_", "rk_", "eyJ", "Bearer", "Basic"),
)
_NAME_ENDS = re.compile(r"""["']?\s*(?:[:=]|(?<=\s)["'])""")
_NAMES_END = re.compile(r"""s?["']?\s*(?:[:=]|(?<=\s)["'])""")
_EQUALS = re.compile("=")
_NAMED = (
    *((word, _NAME_ENDS) for word in ("key", "passwd", "password", "passphrase", "pwd")),
    *((word, _NAMES_END) for word in ("secret", "credential", "cookie")),
    *((word, _NAME_ENDS) for word in ("authorization", "token", "dsn", "jwt", "pat")),
    *((word, _EQUALS) for word in ("signature", "sig", "auth")),
)
_KINDS = ("api", "access", "private", "secret", "signing", "encryption", "account", "ssh")
_LONGEST_KIND = 16
_SPACE = re.compile(r"\s*")
_SPECIAL = "\u017f\u212a\u0130\u0131"
"""Letters that count as s, k and i where case does not."""


def is_secret(key: str) -> bool:
    """Whether a field with this name contains a secret."""
    return bool(_KEY.search(_CAMEL.sub("_", key)))


def redact_text(text: str) -> str:
    """Return free text (an error, a patch, an argument) with its secrets replaced.

    Only lines that have a word without which none of the patterns can match are looked through.
    """
    if "-----BEGIN" in text or any(letter in text for letter in _SPECIAL):
        return _redacted(text)
    spans = sorted(_suspect(text))
    if not spans:
        return text
    out: list[str] = []
    done, (start, end) = 0, spans[0]
    for first, last in [*spans[1:], (len(text) + 1, 0)]:
        if first <= end:
            end = max(end, last)
            continue
        out += text[done:start], _redacted(text[start:end])
        done, start, end = end, first, last
    return "".join([*out, text[done:]])


def _suspect(text: str) -> Iterator[tuple[int, int]]:
    """The spans of the lines where a pattern may match, each with the line end before it.

    No match begins before the line of its word, and after the word none goes on beyond the end of
    the next line that is not blank. What is put in place of a secret makes no new word.
    """
    for word in _EXACT:
        yield from _lines_with(text, text, word, None)
    low = text.lower()
    for word, ending in _NAMED:
        yield from _lines_with(text, low, word, ending)
    at, done, place = -1, 0, text.find("://")
    while place >= 0:
        at = text.find("@", place) if at < place else at
        if at < 0:
            return
        if at >= done and text.find("\n", place, at) < 0:
            start, done = _lines(text, place, at)
            yield start, done
        place = text.find("://", place + 1)


def _lines_with(
    text: str, searched: str, word: str, ending: re.Pattern[str] | None
) -> Iterator[tuple[int, int]]:
    done, place = 0, searched.find(word)
    while place >= 0:
        after = place + len(word)
        found = ending and ending.match(searched, after)
        if word == "key" and found and found[0] != "=":
            before = searched[max(0, place - _LONGEST_KIND) : place].rstrip("-_")
            found = found if before.endswith(_KINDS) else None
        if ending is None or found:
            space = _SPACE.match(text, found.end() if found else after)
            assert space is not None
            if space.end() >= done:  # else the lines are among those that were found
                start, done = _lines(text, place, space.end())
                yield start, done
        place = searched.find(word, after)


def _lines(text: str, first: int, last: int) -> tuple[int, int]:
    """From the line end before one place to that after another, both included."""
    end = text.find("\n", last)
    return max(text.rfind("\n", 0, first), 0), end + 1 if end >= 0 else len(text)


def _redacted(text: str) -> str:
    text = _SHAPES.sub(MARK, text)
    text = _USERINFO.sub(rf"\1{MARK}@", text)
    for pattern in (_QUERY, _BEARER, _COOKIE):
        text = pattern.sub(rf"\1{MARK}", text)

    def variable(match: re.Match[str]) -> str:
        name = match["name"]
        kept = name.endswith("TOKEN") and not _is_secret_value(match["bare"], name)
        return match[0] if kept else f"{name}={MARK}"

    def assigned(match: re.Match[str]) -> str:
        quote = match["quote"] or ""
        kept = not _is_secret_value(match["quoted"] or match["bare"], match["name"])
        return match[0] if kept else f"{match['head']}{quote}{MARK}{quote}"

    return _ASSIGNED.sub(assigned, _VARIABLE.sub(variable, text))


def strip_url(url: str) -> str | None:
    """Return a URL without user name, password and query; None for a local path."""
    if ("://" not in url and not re.match(r"[^/\s]+:", url)) or url.startswith("file:"):
        return None
    url = _USERINFO.sub(r"\1", url)
    return redact_text(url.partition("?")[0])


def redact_value(value: Any, key: str = "") -> Any:
    """Return plain data with secret texts replaced, and numbers if they are a password."""
    if isinstance(value, Mapping):
        return {k: redact_value(item, _inside(key, k)) for k, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [redact_value(item, key) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if _is_secret_value(value, key):
        return MARK
    return redact_text(value) if isinstance(value, str) else value


def masked_fields(value: Any, path: str = "") -> list[str]:
    """Return the dotted names of the fields of whose text something was replaced."""
    if isinstance(value, Mapping):
        inner = [(f"{path}.{key}".lstrip("."), item) for key, item in value.items()]
        return [field for name, item in inner for field in masked_fields(item, name)]
    if isinstance(value, (list, tuple)):
        return list(dict.fromkeys(field for item in value for field in masked_fields(item, path)))
    return [path] if isinstance(value, str) and MARK in value else []


def said_of(config: Config) -> list[str]:
    """Return a line for each field of a redacted configuration whose text was replaced."""
    held = (config.data, config.settings)
    fields = [field for one in held for field in masked_fields(one)]
    fields += [field for field, value in config.overrides.items() if masked_fields(value, field)]
    said = "is taken for a secret and not stored: the run cannot be repeated from its record"
    return [f"{config.label}: {field}: {said}" for field in dict.fromkeys(fields)]


def _inside(outer: str, key: str) -> str:
    """The name that decides about a field: its own, or that of the secrets around it."""
    return outer if _HOLDER.search(outer) and not is_secret(key) else key


def _key_of(field: str) -> str:
    return reduce(_inside, field.split("."), "")


def _is_secret_value(value: Any, key: str) -> bool:
    if not isinstance(value, str):
        return type(value) in (int, float) and bool(_PASSWORD.search(key))
    key = _CAMEL.sub("_", key)
    if not value or not _KEY.search(key) or _REFERENCE.fullmatch(value):
        return False
    if _PASSWORD.search(key):
        return True
    return not _NO_SECRET.fullmatch(value) and bool(_CERTAIN_KEY.search(key) or _is_random(value))


def _is_random(text: str) -> bool:
    """Whether a text looks as if a program had drawn it: no words, nor words with a number."""
    if len(text) < 8 or re.search(r"\s", text):
        return False
    return not all(map(_ORDINARY.fullmatch, re.split(r"[\W_]+", text)))


def redact_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return a command line without secrets, also in `--token X` and `--set a.password=x`.

    The program is reduced to its name, because its path may be private.
    """
    out = [redact_text(program).rpartition("/")[2] for program in arguments[:1]]
    name = ""  # of the value that follows
    for given in arguments[1:]:
        # First by form, then by name: a value, or a name itself, may contain a secret.
        argument = redact_text(given)
        parts = argument.split("=")
        # --token=x, a.password=x, --set=a.password=x
        names = [_key_of(part.lstrip("-")) for part in parts[:-1]]
        at = next((i for i, one in enumerate(names) if is_secret(one)), None)
        if name and not argument.startswith("--") and _is_secret_value(argument, name):
            out.append(MARK)
        elif at is not None and _is_secret_value("=".join(parts[at + 1 :]), names[at]):
            out.append("=".join([*parts[: at + 1], MARK]))
        else:
            out.append(argument)
        name = given.lstrip("-") if given.startswith("-") and "=" not in given else ""
    # Last, because escapes could hide the start of a secret.
    return tuple(map(storable, out))


def redact_config(config: Config) -> Config:
    """Return the configuration without secrets; the digests stay those of the original."""
    text = config.text
    data, settings = redact_value(config.data), redact_value(config.settings)
    if (data, settings) != (config.data, config.settings):
        for start, end in reversed(_secret_spans(text)):
            text = f"{text[:start]}'{MARK}'{text[end:]}"
    return evolve(
        config,
        label=storable(config.label),
        text=redact_text(text),
        data=data,
        settings=settings,
        overrides={
            field: redact_value(value, _key_of(field)) for field, value in config.overrides.items()
        },
    )


def _secret_spans(text: str) -> list[tuple[int, int]]:
    """Return the spans of the values of secret fields in a YAML text, in order."""
    import yaml

    spans: list[tuple[int, int]] = []
    # For each open collection: the name of what is in it, whether it is a mapping, and there the
    # name of the value that comes next.
    stack: list[tuple[str, bool]] = [("", False)]
    key: str | None = None
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        outer, is_mapping = stack[-1]
        if isinstance(event, yaml.ScalarEvent) and is_mapping and key is None:
            key = _inside(outer, event.value)
            continue
        name = (key or "") if is_mapping else outer
        if isinstance(event, yaml.ScalarEvent):
            value: Any = 1 if event.implicit[0] and _is_number(event.value) else event.value
            if _is_secret_value(value, name):
                assert event.start_mark is not None
                assert event.end_mark is not None
                spans.append((event.start_mark.index, event.end_mark.index))
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            stack.append((name, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            stack.pop()
        key = None
    return spans


def _is_number(text: str) -> bool:
    try:
        float(text.replace("_", ""))
    except ValueError:
        return False
    return True


def redact_within(text: str, most: int) -> str:
    """The text without its secrets, and not too long. Only what may be kept is looked through."""
    return cut(redact_text(cut(text, most + 8_000)), most)


def cut(text: str, most: int) -> str:
    """The text, or its beginning and its end with the number of characters that are left out."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n[{len(text) - most:,} characters]\n{text[-(most // 2) :]}"
