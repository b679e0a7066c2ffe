"""Secrets are taken out by name and by shape; what only looks like one stays."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from qn_tracking.config import from_mapping
from qn_tracking.redact import (
    is_secret,
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


def test_numbers_and_booleans_are_no_secrets() -> None:
    data = {"max_tokens": 512, "use_cls_token": True, "token": None, "sha256": DIGEST, "lr": 1e-3}
    assert redact_value(data) == data


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
        "https://example.org:8080/@scope/x",
        "sk-learn-some-longer-name-here-1",
        "use_cls_token: true",
        "https://example.org/a/b?page=2#x",
        "mail me@example.org",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


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
