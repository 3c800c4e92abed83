"""Debian's chromium by its debugging pipe: what a page loads, says and how wide it is; pictures of it.

python tests/browser.py PAGE.html FOLDER        screenshots of a page, wide and narrow, light and dark
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 120  # seconds for one answer


class Browser:
    """One page in a browser of its own. `requests` and `complaints` grow while it is used."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp()
        ours_out, theirs_in = os.pipe()  # read, write
        theirs_out, ours_in = os.pipe()

        def to_three_and_four():  # where the browser looks for its pipe; the ends may have these very numbers
            reading, writing = os.dup(theirs_out), os.dup(theirs_in)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        words = [CHROMIUM, *FLAGS, f"--user-data-dir={self.folder}", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            words, preexec_fn=to_three_and_four, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_out)
        os.close(theirs_in)
        self.reading, self.writing = ours_out, ours_in
        self.waiting, self.number, self.session = b"", 0, None
        self.requests, self.complaints, self.loaded = [], [], False
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.reading)
        os.close(self.writing)
        shutil.rmtree(self.folder, ignore_errors=True)

    def receive(self):
        while b"\0" not in self.waiting:
            part = os.read(self.reading, 1 << 20)
            assert part, "the browser is gone"
            self.waiting += part
        message, self.waiting = self.waiting.split(b"\0", 1)
        return json.loads(message)

    def send(self, method, **params):
        """The answer of one command; events that come before it are noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.note(answer)
        raise AssertionError(f"no answer to {method}")

    def note(self, event):
        name, said = event["method"], event["params"]
        if name == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif name in ("Runtime.exceptionThrown", "Log.entryAdded") or (
            name == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning")
        ):
            self.complaints.append(said)
        elif name == "Page.loadEventFired":
            self.loaded = True

    def open(self, page, width, dark=False):
        height, scheme = 900, "dark" if dark else "light"
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.loaded = False
        self.send("Page.navigate", url=Path(page).resolve().as_uri())
        started = time.monotonic()
        while not self.loaded:
            assert time.monotonic() - started < PATIENCE, f"{page} does not load"
            self.note(self.receive())

    def ask(self, script):
        """The value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, top, height, width):
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        found = self.send("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(found["data"])


def main(page, folder, piece=1500):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with Browser() as browser:
        for width, dark in ((1280, False), (1280, True), (400, False), (400, True)):
            browser.open(page, width, dark)
            height = browser.ask("document.documentElement.scrollHeight")
            print(width, "dark" if dark else "light", height, browser.complaints, len(browser.requests))
            for number, top in enumerate(range(0, height, piece)):
                name = f"{width}-{'dark' if dark else 'light'}-{number:02}.png"
                (folder / name).write_bytes(browser.picture(top, min(piece, height - top), width))


if __name__ == "__main__":
    main(*sys.argv[1:3])
