"""Secrets are taken out by name and by shape; what only looks like one stays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from qn_tracking import redact
from qn_tracking.config import from_mapping
from qn_tracking.redact import (
    is_secret,
    masked_fields,
    redact_arguments,
    redact_config,
    redact_text,
    redact_value,
    strip_url,
)

GITHUB = "ghp_" + "a1B2" * 9
DIGEST = "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"


@pytest.mark.parametrize(
    "key",
    ["password", "api_key", "apiKey", "AWS_SECRET_ACCESS_KEY", "auth.token", "hf_token", "dsn"],
)
def test_names_of_secrets(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["max_tokens", "pad_token", "use_cls_token", "key", "tokenizer", "digest", "keyboard", "path"],
)
def test_names_of_no_secrets(key: str) -> None:
    assert not is_secret(key)


@pytest.mark.parametrize(
    "data",
    [
        {"max_tokens": 512, "use_cls_token": True, "token": None, "sha256": DIGEST, "lr": 1e-3},
        {"start_token": 0, "end_token": "0", "eos_token_id": 50256, "token": 3},
        {"start_token": "<s>", "go_token": "<go>", "token": "<|endoftext|>", "stop-token": "[SEP]"},
        {"image_token": "<|reserved_special_token_17|>", "startToken": "begin_of_sentence"},
        {"agent_token": "player1", "vision_token": "clip-vit-base-patch32", "pat": "*.png"},
        {"api_key": "${API_KEY}", "password": "$PASSWORD", "secret": "none", "auth_token": "{key}"},
        {"credentials": {"retries": 3, "refresh": True}, "cookies": {}},
    ],
)
def test_what_is_no_secret_by_its_value_stays(data: dict[str, Any]) -> None:
    assert redact_value(data) == data
    config = from_mapping(data)
    assert redact_config(config) == config
    for key, value in data.items():
        for text in (f"--{key}={value}", f"export {key}={value}", f'{key} = "{value}"'):
            assert redact_text(text) == text
            assert redact_arguments(["x", text]) == ("x", text)


@pytest.mark.parametrize(
    "token", [GITHUB, "a8f5f167f44f4964e6c998dee827110c", "local-" + "Zq" * 20]
)
def test_what_looks_drawn_is_a_secret_under_every_name_of_a_token(token: str) -> None:
    for key in ("start_token", "hf_token", "wandbToken", "token", "pat"):
        assert redact_value({"a": {key: [token]}}) == {"a": {key: ["[redacted]"]}}
        assert token not in " ".join(redact_arguments(["x", f"--{key}", token, f"{key}={token}"]))


def test_what_is_among_secrets_is_one() -> None:
    data = {"credentials": {"user": "me", "more": [{"pin": "swordfish"}], "count": 3}}
    clean = redact_config(from_mapping(data, ["cookies.session=swordfish"]))
    assert clean.data == {
        "credentials": {"user": "[redacted]", "more": ({"pin": "[redacted]"},), "count": 3},
        "cookies": {"session": "[redacted]"},
    }
    assert "swordfish" not in clean.text
    assert clean.overrides == {"cookies.session": "[redacted]"}
    assert masked_fields(clean.data) == [
        "credentials.user", "credentials.more.pin", "cookies.session",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        f"pushed with {GITHUB}",
        'password = "hunter2"',
        "api_key: 'abc'",
        "+  token: a8f5f167f44f4964e6c998dee827110c",
        '{"secret": "xyzzy"}',
        "Authorization: Bearer abcDEF123456789",
        "https://me:hunter2@example.org/x.git",
        "https://example.org/x?access_token=hunter2&y=1",
        "AKIA" + "A1B2" * 4,
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
        "https://me:hun/ter2@hunter2@example.org/x",
        "export AWS_SECRET_ACCESS_KEY=hunterhunter2",
        "Bearer hunter2hunter",
        "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2",
        "Cookie: theme=dark; session=hunter2",
        "curl -H 'set-cookie: id=hunter2; Path=/' x",
        """{"cookie": "id=hunter2"}""",
    ],
)
def test_secrets_in_text(text: str) -> None:
    clean = redact_text(text)
    assert "[redacted]" in clean
    for secret in ("hunter2", GITHUB, "xyzzy", "abcDEF", "a8f5f1", "A1B2A1B2", "'abc'", "SflKx"):
        assert secret not in clean
    assert redact_text(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        f"commit {DIGEST}",
        "def f(token: str, max_tokens: int = 512) -> None:",
        "token = tokenizer.next()",
        "max_tokens: 512abc",
        "pad_token = '<pad>'",
        "START_TOKEN='<s>'",
        'start_token = "<s>"',
        "the cookie: it holds nothing",
        "https://example.org:8080/@scope/x",
        "sk-learn-some-longer-name-here-1",
        "use_cls_token: true",
        "https://example.org/a/b?page=2#x",
        "mail me@example.org",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "piece", ["_", "a_", "a.b-", "a://a:", "x ", "-", "A", "sk-", "token ", "cookie"]
)
def test_long_texts_take_no_longer_than_they_are(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    assert redact_text(text) == text  # what is quadratic here takes for ever


def test_the_command_line() -> None:
    given = [
        "/home/me/bin/qn-run",
        "c.yml",
        "--token",
        "abc",
        "--api-key=abc",
        "--set=b.token=abc",
        "--set",
        "a.password=abc",
        "--x",
    ]
    clean = redact_arguments(given)
    assert "abc" not in " ".join(clean)
    assert clean[:2] == ("qn-run", "c.yml")
    assert clean[-1] == "--x"


LONG = "a1B2" * 9
SHAPES = [
    *(f"gh{kind}_{LONG}" for kind in "pousr"),
    f"github_pat_{LONG}",
    f"glpat-{LONG}",
    "AKIA" + "A1B2" * 4,
    "ASIA" + "A1B2" * 4,
    f"xoxb-{LONG}",
    f"hf_{LONG}",
    f"sk-{LONG}",
    f"sk-proj-a1B2-{LONG}",
    f"sk-ant-api03-{LONG}",
    f"sk_live_{LONG}",
    f"rk_test_{LONG}",
    f"npm_{LONG}",
    f"pypi-{LONG}",
    f"AIza{LONG}",
    f"eyJ{LONG}.{LONG}.{LONG}",
    *(f"gl{kind}-{LONG}" for kind in ("dt", "rt", "cbt", "ptt", "soat")),
    *(f"shp{kind}_{LONG}" for kind in ("at", "ca", "pa", "ss")),
    *(f"{prefix}_{LONG}" for prefix in ("dckr_pat", "lsv2_pt", "lsv2_sk", "glsa", "figd", "whsec")),
    *(
        f"{prefix}-{LONG}"
        for prefix in ("nvapi", "GOCSPX", "tskey-auth", "xapp-1", "AGE-SECRET-KEY")
    ),
    *(f"{prefix}{LONG}" for prefix in ("ya29.", "ATATT3", "dop_v1_", "wandb_v1_", "hvs.", "hvb.")),
    *(f"{prefix}{LONG * 2}" for prefix in ("gsk_", "r8_", "xai-", "pplx-")),
    "dapi" + "0a1b" * 8,
    f"SG.{LONG}.{LONG}",
    f"eyJhcGlf{LONG}==",
    f"hooks.slack.com/services/T0/B0/{LONG}",
    f"discord.com/api/webhooks/123/{LONG}",
]
GLUE = st.sampled_from(["", " ", "=", ":", ",", "-", "_", "/", '"', "'", "\n", "é", "--", "(", "@"])
WORD = st.sampled_from(["", "x", "password=x", "a=b", "--set", "token", "[redacted]", "https://h/"])


@given(
    shape=st.sampled_from(SHAPES),
    around=st.tuples(WORD, GLUE, GLUE, WORD),
    before=st.lists(st.sampled_from(["run", "--notes", "--token", "-n", "a.password=x", ""])),
)
@example(SHAPES[0], ("", "", " ", "password=x"), ["qn-run", "--notes"])
@example(SHAPES[0], ("", "", "=", "password=x"), ["qn-run", "--set"])
@example(SHAPES[0], ("", "", "_", "x"), ["qn-run"])
@example(SHAPES[0], ("--", "", "", ""), ["qn-run", "--token"])
def test_no_shape_survives_anywhere_in_a_command_line(
    shape: str, around: tuple[str, str, str, str], before: list[str]
) -> None:
    # Glued to a letter, some shapes would be found in words: of those an option's alone counts.
    start, left, right, end = around
    left = left or ("" if start in ("", "https://h/") else " ")
    for planted in (f"{start}{left}{shape}{right}{end}", f"-p{shape}", f"--{shape}=x"):
        clean = redact_arguments([*before, planted, "last"])
        assert shape[-16:] not in " ".join(clean), (planted, clean)
        assert len(clean) == len(before) + 2
        assert redact_arguments(clean) == clean


def test_a_remote_loses_user_and_query() -> None:
    assert strip_url(f"https://x:{GITHUB}@h.org/r.git?token=1") == "https://h.org/r.git"
    assert strip_url("git@h.org:r.git") == "git@h.org:r.git"
    assert strip_url("/home/me/r") is None
    assert strip_url("../r") is None
    assert strip_url("file:///home/me/r") is None


def test_a_configuration_is_stored_without_its_secrets_under_its_own_digest() -> None:
    data = {"db": {"password": "swordfish", "pwd": 12345, "type": "s"}, "tokens": {"token": ["s"]}}
    config = from_mapping(data)
    clean = redact_config(config)
    assert clean.text == (
        """{"db":{"password":'[redacted]',"pwd":'[redacted]',"type":"s"},"""
        """"tokens":{"token":['[redacted]']}}"""
    )
    assert clean.data["db"]["password"] == "[redacted]"
    assert clean.digest == config.digest
    assert clean.sha256 == config.sha256


PIECES = st.sampled_from(
    (
        *(
            "\n",
            "\n",
            " ",
            "\t",
            "\r\n",
            "\r",
            "\x0b",
            "\x85",
            "\u2028",
            "=",
            ":",
            "'",
            '"',
            "-",
            "_",
        ),
        *("token", "KEY", "key", "api_key", "api-key", "Secrets", "cookie", "PASSWD", "dsn", "pat"),
        *("path", "pad_", "eos", "private", "account", "signature", "sig", "auth", "?", "&", ";"),
        *("Bearer", "Basic", "https://", "me:pw@", "@", "a=b", "a1B2c3D4e5F6", "hunter2", "x", "é"),
        *(GITHUB, "sk-" + "a" * 24, "-psk-" + "b" * 24, "eyJhbGciOiJI.eyJzdWIiOiIx.x"),
        *("-----BEGIN RSA PRIVATE KEY-----", "[redacted]", "\u017f", "\u212a", "\u0130", "\u0131"),
    )
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join))
@example("access_token=-pat\nghp_" + "a1B2" * 9 + "access_token=\nhunter2a1")
@example("token\n\n=\n\na1b2c3d4")
@example("x\n-psk-" + "b" * 24)
@example("a://b\nc://d:e@f")
def test_lines_that_are_passed_over_have_no_secrets(text: str) -> None:
    assert redact_text(text) == redact._redacted(text)


def test_of_a_log_only_lines_with_a_name_are_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    whole = redact._redacted
    monkeypatch.setattr(redact, "_redacted", lambda text: (seen.append(text), whole(text))[1])
    log = "".join(f"step {i} loss=0.1 path: /a/b, tokens=5 https://a.org\n" for i in range(999))
    text = f"{log}api_key: 'hunter2'\n{log}"
    assert redact_text(text) == text.replace("hunter2", "[redacted]")
    assert [len(one.splitlines()) for one in seen] == [2]
