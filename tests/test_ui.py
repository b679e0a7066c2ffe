"""`qn-exp ui`: pages for one browser on this machine, and for nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from itertools import count
from pathlib import Path
from threading import Event, Semaphore, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from conftest import BIN, Program, command
from qn_tracking import track
from qn_tracking.errors import StorageError, UnsupportedError

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")

from qn_tracking.api import serving as serving_module
from qn_tracking.api.serving import SiteServer
from qn_tracking.render.site import POLICY

SECRET_FILE = "secret.html"


class Served:
    """A site that is served, and what a client sees of it."""

    def __init__(self, server: SiteServer, warnings: list[str], built: list[str]) -> None:
        self.server, self.warnings, self.built = server, warnings, built
        self.host = f"127.0.0.1:{server.server_port}"
        self.cookie = f"{server.cookie}={server.secret}"

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[HTTPResponse, str]:
        """The answer to a request with the cookie, unless the headers have another."""
        sent = {"Host": self.host, "Cookie": self.cookie, **(headers or {})}
        connection = HTTPConnection("127.0.0.1", self.server.server_port, timeout=300)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in sent.items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer, answer.read().decode()
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """The answer to these bytes."""
        with socket.create_connection(("127.0.0.1", self.server.server_port), 300) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))


@contextmanager
def serving(server: SiteServer) -> Iterator[None]:
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    site = tmp_path / "site"
    (site / "runs").mkdir(parents=True)
    (tmp_path / SECRET_FILE).write_text("not of the site")
    (site / "index.html").write_text("<p>first</p>")
    (site / "runs/a-1.b.html").write_text("<p>run</p>")
    (site / "site.css").write_text("p {}")
    (site / "site.js").write_text("1")
    (site / ".site.json").write_text("{}")
    (site / "notes.txt").write_text("no page")
    (site / "link.html").symlink_to(tmp_path / SECRET_FILE)
    (site / "above").symlink_to(tmp_path)
    warnings: list[str] = []
    built: list[str] = []
    server = SiteServer(str(site), port=0, refresh=built.append, warn=warnings.append)
    with serving(server):
        yield Served(server, warnings, built)


# ------------------------------------------------------------------------------------ who gets in


def test_the_secret_of_the_address_becomes_a_cookie(served: Served) -> None:
    url = urlsplit(served.server.url)
    assert (url.scheme, url.netloc, url.path) == ("http", served.host, "/")
    answer, text = served.ask(f"{url.path}?{url.query}", headers={"Cookie": ""})
    assert answer.status == 200
    assert served.server.secret not in text
    assert 'content="0;url=/index.html"' in text
    cookie, *attributes = str(answer.getheader("Set-Cookie")).split("; ")
    assert cookie == served.cookie
    assert attributes == ["Path=/", "HttpOnly", "SameSite=Strict"]
    answer, text = served.ask("/", headers={"Cookie": f"other=1; {cookie}"})
    assert (answer.status, text) == (200, "<p>first</p>")


def test_what_a_browser_is_started_with_can_be_used_once(served: Served) -> None:
    """Other users of the machine see it in the list of processes."""
    addresses = [urlsplit(served.server.url_for_once()).query for _ in range(2)]
    assert served.server.secret not in "".join(addresses)
    for query in addresses:
        answer, _ = served.ask(f"/?{query}", headers={"Cookie": ""})
        assert str(answer.getheader("Set-Cookie")).startswith(served.cookie)
        assert served.ask(f"/?{query}", headers={"Cookie": ""})[0].status == 403


@pytest.mark.parametrize("path", ["/", "/index.html", "/site.css", "/nothing.html", "/?token="])
@pytest.mark.parametrize("cookie", ["", "{name}=", "{name}=wrong", "other={secret}", "{secret}"])
def test_without_the_secret_nothing_is_shown(served: Served, path: str, cookie: str) -> None:
    sent = cookie.format(name=served.server.cookie, secret=served.server.secret)
    answer, text = served.ask(path, headers={"Cookie": sent})
    assert answer.status == 403
    assert text == "403 Forbidden: open the address that qn-exp ui has printed\n"
    assert answer.getheader("Set-Cookie") is None
    assert served.built == []


@pytest.mark.parametrize("token", ["wrong", "%00", "%F0%9F%90%9B", "{half}", "{secret}x"])
def test_a_wrong_secret_is_refused(served: Served, token: str) -> None:
    secret = served.server.secret
    given = token.format(half=secret[:20], secret=secret)
    assert served.ask(f"/?token={given}", headers={"Cookie": ""})[0].status == 403


def test_each_server_has_a_secret_of_its_own(served: Served) -> None:
    other = SiteServer(".", port=0, refresh=lambda _: None, warn=print)
    other.server_close()
    assert other.secret != served.server.secret
    assert other.cookie != served.server.cookie
    assert len(other.secret) >= 32


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", ""]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_name_of_this_machine_is_refused(served: Served, host: str, method: str) -> None:
    """A site that has its name point to 127.0.0.1 would read the pages otherwise."""
    name = host.format(port=served.server.server_port)
    answer, text = served.ask("/index.html", method, {"Host": name})
    assert (answer.status, text) == (421, "421 Misdirected Request\n")


def test_two_names_are_refused(served: Served) -> None:
    lines = [f"Host: {served.host}", "Host: evil.example", f"Cookie: {served.cookie}"]
    request = "\r\n".join(["GET / HTTP/1.1", *lines, "", ""])
    assert served.raw(request.encode()).startswith(b"HTTP/1.0 421 ")


def test_localhost_is_this_machine(served: Served) -> None:
    host = f"localhost:{served.server.server_port}"
    answer, _ = served.ask("/", headers={"Host": host, "Origin": f"http://{host}"})
    assert answer.status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://{host}", "file://"])
def test_a_page_of_another_site_cannot_ask(served: Served, origin: str) -> None:
    answer, _ = served.ask("/", headers={"Origin": origin.format(host=served.host)})
    assert answer.status == 403


# ------------------------------------------------------------------------------------ what is there


def test_pages_and_shared_files_are_served(served: Served) -> None:
    for path, kind, content in (
        ("/index.html", "text/html", "<p>first</p>"),
        ("/runs/a-1.b.html", "text/html", "<p>run</p>"),
        ("/runs/a-1.b.html?sort=1", "text/html", "<p>run</p>"),
        ("/site.css", "text/css", "p {}"),
        ("/site.js", "text/javascript", "1"),
    ):
        answer, text = served.ask(path)
        assert (answer.status, text) == (200, content)
        assert answer.getheader("Content-Type") == f"{kind}; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [
        *("/../secret.html", "/runs/../../secret.html", "/./index.html"),
        *("/%2e%2e/secret.html", "/..%2fsecret.html", "/%69ndex.html", "/..\\secret.html"),
        *("/link.html", "/above/secret.html", "/above/site/index.html"),
        *("/runs", "/runs/", "/.site.json", "/notes.txt", "/nothing.html", "/index.html/"),
        *("/index.html%00.css", "index.html", "http://127.0.0.1/index.html", "*", "/" + "a" * 9999),
    ],
)
def test_nothing_but_a_page_is_found(served: Served, path: str) -> None:
    """No folder is listed, no way leads out of the site, no link is followed."""
    answer, text = served.ask(path)
    assert (answer.status, text) == (404, "404 Not Found\n")
    answer, _ = served.ask(f"{path}?token={served.server.secret}", headers={"Cookie": ""})
    assert answer.getheader("Set-Cookie") is None or path.endswith(".html")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "MINE"])
def test_nothing_can_be_changed(served: Served, method: str) -> None:
    answer, text = served.ask("/index.html", method)
    assert (answer.status, text) == (405, "405 Method Not Allowed\n")
    assert answer.getheader("Allow") == "GET, HEAD"


def test_head_has_no_content(served: Served) -> None:
    answer, text = served.ask("/index.html", "HEAD")
    assert (answer.status, text) == (200, "")
    assert answer.getheader("Content-Length") == str(len("<p>first</p>"))


@pytest.mark.parametrize("path", ["/", "/site.js", "/nothing.html"])
def test_every_answer_has_the_strict_headers(served: Served, path: str) -> None:
    answer, _ = served.ask(path)
    policy = answer.getheader("Content-Security-Policy")
    assert policy == f"{POLICY}; frame-ancestors 'none'"
    assert "unsafe" not in policy
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Referrer-Policy") == "no-referrer"
    assert answer.getheader("Cache-Control") == "no-store"
    assert "Python" not in str(answer.getheader("Server"))


@pytest.mark.parametrize(
    "data", [b"", b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\xff" * 70_000]
)
def test_what_is_no_request_harms_nothing(served: Served, data: bytes) -> None:
    answer = served.raw(data)
    assert b"<p>" not in answer
    assert b"Traceback" not in answer
    assert served.ask("/")[0].status == 200
    assert served.warnings == []


# ---------------------------------------------------------------------------------------- up to date


def test_a_page_is_up_to_date_when_it_is_sent(served: Served) -> None:
    index = Path(served.server.folder, "index.html")
    texts = iter(["second", "third"])
    served.server._refresh = lambda _: index.write_text(next(texts))
    assert served.ask("/")[1] == "second"
    assert served.ask("/site.css")[1] == "p {}"
    assert served.ask("/index.html")[1] == "third"


def test_no_other_page_is_made(served: Served) -> None:
    for path in ("/", "/runs/a-1.b.html?sort=1", "/site.js"):
        served.ask(path)
    assert served.built == ["index.html", "runs/a-1.b.html"]


def test_if_it_cannot_be_built_the_page_is_sent_as_it_was(served: Served) -> None:
    for error in (StorageError("is broken", file="a.json"), ZeroDivisionError("by 0")):

        def fail(name: str, error: Exception = error) -> None:
            raise error

        served.server._refresh = fail
        assert served.ask("/")[1] == "<p>first</p>"
    first, second = served.warnings
    assert first == "index.html was not made again: a.json: is broken"
    assert "ZeroDivisionError" in second


def test_requests_that_wait_share_what_is_built(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that began after a request came is as good as one of its own."""
    go, calls, times = Event(), Semaphore(0), count(1)

    def now() -> float:
        calls.release()
        return next(times)

    def slowly(name: str) -> None:
        served.built.append(name)
        assert go.wait(300)

    monkeypatch.setattr(serving_module, "monotonic", now)
    served.server._refresh = slowly
    threads = [Thread(target=served.server.refresh, args=("index.html",)) for _ in range(6)]
    threads[0].start()
    for _ in range(2):  # it came, and it builds
        assert calls.acquire(timeout=300)
    for thread in threads[1:]:
        thread.start()
        assert calls.acquire(timeout=300)
    go.set()
    for thread in threads:
        thread.join()
    assert served.built == ["index.html"] * 2


# ---------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize("option", ["--experiments-dir", "--benchmarks-dir"])
def test_a_folder_that_was_named_and_is_not_there_is_an_error(project: Path, option: str) -> None:
    done = command("qn-exp", "ui", "--no-browser", "--port", "0", option, "typo")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: typo: no such folder")


def test_a_port_that_is_taken_is_an_error_of_one_line(project: Path, qn_exp: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = qn_exp("ui", "--no-browser", "--port", str(port))
        with pytest.raises(UnsupportedError, match="address already in use"):
            SiteServer(".", port=port, refresh=lambda _: None, warn=print)
    assert (done.returncode, done.stdout) == (4, "")
    hint = "--port 0 takes one that is free"
    assert done.stderr == f"error: port {port}: address already in use ({hint})\n"


@contextmanager
def started(*args: str, **env: str) -> Iterator[tuple[str, Any]]:
    """The command, and the address that it has printed; it is ended as by Ctrl-C."""
    words = [str(BIN / "qn-exp"), "ui", "--no-browser", "--port", "0", "--json", *args]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
    ) as process:
        assert process.stdout
        printed = ""
        for line in process.stdout:
            printed += line
            if line == "}\n":
                break
        try:
            yield json.loads(printed)["url"], process
        finally:
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=300)
    assert (process.returncode, *said) == (0, "", "")


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(project: Path) -> None:
    place = project / "tmp"
    place.mkdir()
    with started(TMPDIR=str(place)) as (url, _):
        address = urlsplit(url)
        connection = HTTPConnection(str(address.hostname), address.port or 0, timeout=300)
        secret = address.query.removeprefix("token=")
        name = f"qn-ui-{address.port}"
        for path, content in (("/", b"no experiment yet"), ("/index.html", b"0 valid submissions")):
            connection.request("GET", path, headers={"Cookie": f"{name}={secret}"})
            assert content in connection.getresponse().read()
        connection.close()
        assert list(place.iterdir())
    assert not list(place.iterdir())


@pytest.mark.slow
def test_a_browser_sees_a_run_once_the_page_is_loaded_again(project: Path) -> None:
    driver = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium")
    said: list[str] = []
    asked: list[str] = []
    with started() as (url, _), driver.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_url("**/experiments.html")
        assert page.evaluate("document.cookie") == ""
        with track({"a": 1}, seed=1) as run:
            run.episode(success=True, steps=3)
        assert run.id not in page.inner_text("main")
        page.reload()
        assert run.id in page.inner_text("main")
        page.click(f"text={run.id}")
        page.wait_for_url(f"**/runs/{run.id}.html")
        assert run.id in page.inner_text("h1")
        address = page.url
        assert said == []
        stranger = browser.new_context().new_page()
        stranger.goto(address)
        assert stranger.inner_text("body").startswith("403 Forbidden")
        browser.close()
    assert {urlsplit(one).netloc for one in asked} == {urlsplit(url).netloc}
    assert [one for one in asked if "token=" in one] == [url]
