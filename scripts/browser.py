"""A headless Chromium that is driven over its DevTools protocol.

The one idea: no library but ``websocket-client``, which Odoo's own browser tests need too.

What may go wrong: the browser is not there, or a page does not become what was waited for. Both
raise :class:`BrowserError`; the browser and its profile are gone afterwards.
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_S = 30
WAIT_S = 40
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--no-first-run", "--disable-extensions",
    "--force-device-scale-factor=1", "--mute-audio", "--remote-debugging-port=0",
    "--remote-allow-origins=*", "--lang=en-US",
)  # fmt: skip


class BrowserError(Exception):
    """The browser did not start, or a page did not do what it should."""


class Browser:
    """One tab; use it in a ``with`` statement."""

    def __init__(self):
        self._stack = contextlib.ExitStack()
        self._number = 0
        self._socket = None
        self.redirects = {}  # part of an address: the address to use instead

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            profile = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="shots", ignore_cleanup_errors=True)
            )
            process = subprocess.Popen(
                [find_chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(_end, process)
            self._connect(Path(profile, "DevToolsActivePort"))
            stack.callback(self._socket.close)
            self._stack = stack.pop_all()
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *exc_info):
        self._stack.close()

    def _connect(self, port_file):
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError):
                port = int(port_file.read_text().split()[0])
                with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                    pages = [tab for tab in json.load(answer) if tab["type"] == "page"]
                if pages:
                    url = pages[0]["webSocketDebuggerUrl"]
                    self._socket = websocket.create_connection(url, timeout=WAIT_S)
                    return
            time.sleep(0.1)
        raise BrowserError("Chromium does not start")

    def send(self, method, **params):
        """:return dict: what DevTools answer."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("method") == "Fetch.requestPaused":
                self._go_on(message["params"])
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']}")
                return message["result"]

    def redirect(self, redirects):
        """From now on, whatever address contains a key is fetched from its value."""
        self.redirects = redirects
        if redirects:
            self.send("Fetch.enable", patterns=[{"urlPattern": f"*{part}*"} for part in redirects])
        else:
            self.send("Fetch.disable")

    def _go_on(self, request):
        url = request["request"]["url"]
        values = {"requestId": request["requestId"]}
        target = next((to for part, to in self.redirects.items() if part in url), None)
        method = "Fetch.continueRequest"
        if target:
            method = "Fetch.fulfillRequest"
            headers = [{"name": "Location", "value": target}]
            values.update(responseCode=302, responseHeaders=headers)
        self._number += 1
        command = {"id": self._number, "method": method, "params": values}
        self._socket.send(json.dumps(command))

    def run(self, code):
        """:return: the value of a JavaScript expression, of a promise too."""
        answer = self.send(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait(self, code, what=None):
        """Until a JavaScript expression is true."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            with contextlib.suppress(BrowserError):  # while a page is on its way
                if self.run(f"Boolean({code})"):
                    return
            time.sleep(0.1)
        raise BrowserError(f"in vain waited for {what or code}: {self.run('location.href')}")

    def open(self, url):
        self.send("Page.navigate", url=url)

    def press(self, key, code=None, text=None, virtual=0):
        """One key, as a person presses it."""
        values = {"key": key, "code": code or key, "windowsVirtualKeyCode": virtual}
        down = {"text": text} if text else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **values, **down)
        self.send("Input.dispatchKeyEvent", type="keyUp", **values)

    def resize(self, width, height):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=width < 600)

    def picture(self):
        """:return bytes: a PNG of what is visible."""
        answer = self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])


def find_chromium():
    """:raise BrowserError: none is installed."""
    for name in (os.environ.get("CHROMIUM"), *NAMES):
        path = name and shutil.which(name)
        if path:
            return path
    raise BrowserError("no Chromium is installed; CHROMIUM may say where one is")


def _end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
