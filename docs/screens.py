"""Writes the pictures of other tools in the READMEs of their plugins, as their users see our runs:

python docs/screens.py tensorboard PROGRAM
python docs/screens.py mlflow PROGRAM

PROGRAM is the tool's, which may be of another environment; this one needs the plugin, Playwright
and Chromium. Two runs are executed, and looked at in the real tool on a free port of this machine.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

PLUGINS = Path(__file__).parents[1] / "plugins"
RUN = "qn-run mlp_dynamic_small --episodes 100 --evaluate-every 20 --evaluate-episodes 10"
SEEDS = ("1", "2")
SIZE = {"width": 1180, "height": 640}


def runs(tool: str, folder: str, environment: dict[str, str]) -> None:
    """Executes the runs, which the plugin sends to the tool or writes for it."""
    for seed in SEEDS:
        more = ["--seed", seed, "--track-experiment", "--plugins", tool, "--quiet"]
        words = [str(Path(sys.executable).parent / "qn-run"), *RUN.split()[1:], *more]
        subprocess.run(words, cwd=folder, check=True, env={**os.environ, **environment})


@contextmanager
def served(words: list[str], folder: str, port: str) -> Iterator[str]:
    """The address of a server that has been started, until it is closed again."""
    with subprocess.Popen(
        words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            for _ in range(120):
                try:
                    urlopen(f"http://127.0.0.1:{port}/").close()
                    break
                except URLError:
                    sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def tensorboard(program: str, folder: str, port: str, page: Any) -> None:
    """Its time series, once they are drawn."""
    runs("tensorboard", folder, {})
    words = [program, "--logdir", "exports/tensorboard", "--port", port]
    with served(words, folder, port) as url:
        page.goto(f"{url}/?darkMode=false&tagFilter=episode/(success|reward)$#timeseries")
        page.wait_for_selector("line-chart", timeout=120_000)
        page.locator("button", has_text="Settings").last.click(timeout=10_000)
        save(page, "tensorboard")


def mlflow(program: str, folder: str, port: str, page: Any) -> None:
    """The charts of its experiment, with what stands beside them closed."""
    store = ["--backend-store-uri", "sqlite:///mlflow.db", "--default-artifact-root", "artifacts"]
    words = [program, "server", "--host", "127.0.0.1", "--port", port, "--workers", "1", *store]
    with served(words, folder, port) as url:
        runs("mlflow", folder, {"MLFLOW_TRACKING_URI": url})
        page.goto(f"{url}/#/experiments/1/runs?compareRunsMode=CHART")
        search = page.get_by_placeholder("Search metric charts")
        search.wait_for(timeout=120_000)
        for label in ("Close", "Toggle sidebar"):
            page.get_by_role("button", name=label, exact=True).first.click(timeout=10_000)
        search.fill("^(success|reward|loss)$")
        search.blur()
        save(page, "mlflow")


def save(page: Any, tool: str) -> None:
    """Writes what the page shows, with few colours so that the file is small."""
    from PIL import Image

    page.wait_for_timeout(8_000)  # the curves slide into their places
    path = PLUGINS / f"qn-tracking-{tool}" / f"{tool}.png"
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} KB")


def main() -> None:
    """Runs, looks, and writes the picture."""
    from playwright.sync_api import sync_playwright

    tool, program = sys.argv[1:]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        {"tensorboard": tensorboard, "mlflow": mlflow}[tool](program, folder, port, page)
        browser.close()


if __name__ == "__main__":
    main()
