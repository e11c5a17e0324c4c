"""A real TensorBoard in a headless Chromium: open a page, wait, ask, photograph.

``python tests/reporting/browser.py LOGDIR PICTURE.png [WHERE]`` photographs the
TensorBoard of a folder, say with ``WHERE="?smoothing=0#timeseries"``. Speaks the
W3C WebDriver protocol to ``chromedriver`` directly, so that nothing but Debian's
``chromium`` and ``chromium-driver`` has to be installed.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def missing() -> str | None:
    """Why no browser can be started here, None if one can."""
    for program in ["chromium", "chromedriver"]:
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: chromium, chromium-driver)"
    return None


class Browser:
    """One tab."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        _post(f"{self._session}/url", {"url": url})

    def ask(self, javascript: str) -> Any:
        """The value of a JavaScript expression in the page."""
        body = {"script": f"return {javascript}", "args": []}
        return _post(f"{self._session}/execute/sync", body)

    def wait(self, javascript: str, seconds: float = 30) -> Any:
        """Ask until the answer is truthy.

        Raises: TimeoutError with the last answer.
        """
        return _until(lambda: self.ask(javascript), seconds, javascript)

    def photograph(self) -> bytes:
        """A PNG of the window."""
        return base64.b64decode(_call(f"{self._session}/screenshot"))

    def print_out(self) -> bytes:
        """The page as a PDF, as printing makes it."""
        return base64.b64decode(_post(f"{self._session}/print", {}))


@contextmanager
def browser(width: int = 1400, height: int = 900) -> Iterator[Browser]:
    """A headless Chromium with a profile of its own, gone afterwards."""
    port = _free_port()
    with TemporaryDirectory() as profile, _process("chromedriver", f"--port={port}"):
        root = f"http://127.0.0.1:{port}"
        _until(lambda: _answers(f"{root}/status"), 20, "chromedriver to answer")
        flags = [
            *FLAGS,
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
        ]
        options: dict[str, Any] = {"args": flags, "binary": shutil.which("chromium")}
        if width < 500:  # narrower than a window can be: a telephone
            screen = {"width": width, "height": height, "pixelRatio": 1}
            options["mobileEmulation"] = {"deviceMetrics": screen}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        reply = _post(f"{root}/session", {"capabilities": wanted})
        session = f"{root}/session/{reply['sessionId']}"
        try:
            yield Browser(session)
        finally:
            _call(session, method="DELETE")


@contextmanager
def tensorboard(log_dir: Path) -> Iterator[str]:
    """The address of a TensorBoard that has loaded ``log_dir``."""
    port = _free_port()
    start = ["-m", "tensorboard.main", "--load_fast=false", "--logdir", str(log_dir)]
    with _process(sys.executable, *start, "--host=127.0.0.1", f"--port={port}"):
        root = f"http://127.0.0.1:{port}"
        _until(lambda: _answers(f"{root}/data/runs"), 60, "TensorBoard to load runs")
        yield root


def _call(url: str, body: bytes | None = None, method: str | None = None) -> Any:
    request = urllib.request.Request(url, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as error:
        raise RuntimeError(error.read().decode()) from None
    return answer["value"] if isinstance(answer, dict) else answer


def _post(url: str, body: dict[str, Any]) -> Any:
    return _call(url, json.dumps(body).encode())


def _answers(url: str) -> Any:
    try:
        return _call(url)
    except urllib.error.URLError:
        return None


def _until(ask: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}: {answer!r}")
        time.sleep(0.1)
    return answer


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def _process(*command: str) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    log_dir, picture, where, *_ = [*sys.argv[1:], "#timeseries"]
    with tensorboard(Path(log_dir)) as address, browser(1060, 760) as page:
        page.open(f"{address}/{where}")
        buttons = "[...document.querySelectorAll('button')]"
        settings = f"{buttons}.find(b => b.innerText.includes('Settings'))"
        page.wait(f"{settings} || !location.hash.includes('timeseries')")
        page.ask(f"{settings}?.click()")  # closes the panel on the right
        time.sleep(8)  # charts are drawn some time after the page says it is loaded
        Path(picture).write_bytes(page.photograph())
