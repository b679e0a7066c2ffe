"""Writes the picture of TensorBoard in the README of qn-tracking-tensorboard.

python docs/tensorboard.py TENSORBOARD

TENSORBOARD is the program, which may be of another environment; it needs the plugin, Playwright and
Chromium as well. Two runs are executed and looked at in a real TensorBoard, on a free port of this
machine, until it is closed again.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from time import sleep
from urllib.error import URLError
from urllib.request import urlopen

PICTURE = Path(__file__).parents[1] / "plugins" / "qn-tracking-tensorboard" / "tensorboard.png"
RUN = "qn-run mlp_dynamic_small --episodes 100 --evaluate-every 20 --evaluate-episodes 10"
SEEDS = ("1", "2")
TAGS = "episode/(success|reward)$"
SIZE = {"width": 1180, "height": 640}


def screenshot(url: str, path: Path) -> None:
    """The page once its curves are drawn."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(url)
        page.wait_for_selector("line-chart", timeout=120_000)
        page.locator("button", has_text="Settings").last.click(timeout=10_000)
        page.wait_for_timeout(8_000)  # the curves slide into their places
        page.screenshot(path=path)
        browser.close()


def main() -> None:
    """Runs, looks, and writes the picture."""
    (tensorboard,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            more = ["--seed", seed, "--track-experiment", "--plugins", "tensorboard", "--quiet"]
            words = [str(Path(sys.executable).parent / "qn-run"), *RUN.split()[1:], *more]
            subprocess.run(words, cwd=folder, check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        words = [tensorboard, "--logdir", "exports/tensorboard", "--port", port]
        with subprocess.Popen(words, cwd=folder, stderr=subprocess.DEVNULL) as server:
            try:
                for _ in range(120):
                    try:
                        urlopen(f"http://127.0.0.1:{port}/").close()
                        break
                    except URLError:
                        sleep(1)
                query = f"?darkMode=false&tagFilter={TAGS}"
                screenshot(f"http://127.0.0.1:{port}/{query}#timeseries", PICTURE)
            finally:
                server.terminate()
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
