"""A page in Debian's chromium, wide or narrow, light or dark: what it says of itself, and pictures of it.

python tests/support/browser.py PAGE.html FOLDER        screenshots of a page, wide and narrow, light and dark
"""

import html
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHROMIUM = shutil.which("chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
# In a frame, because no window is narrower than 500 pixels. The page sends what it finds to the frame's owner.
FRAME = """<body style="margin: 0">
<iframe src="page.html" style="width: {width}px; height: {height}px; border: 0"></iframe>
<script>addEventListener("message", event => {{ if ({answer}) document.body.textContent = event.data; }})</script>"""
SEND = """<script>addEventListener("load", () => parent.postMessage(JSON.stringify(({function})()), "*"))</script>"""
SIZE = "() => document.documentElement.scrollHeight"


def run_browser(page, width, dark, words, function=SIZE, height=900, answer=True):
    """Chromium on the page in a frame; gives what it wrote to stdout and stderr."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(page).read_text(encoding="utf-8")
        (Path(folder) / "page.html").write_text(text.replace("</body>", SEND.format(function=function) + "</body>"))
        frame = Path(folder) / "frame.html"
        frame.write_text(FRAME.format(width=width, height=height, answer=str(answer).lower()))
        scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
        flags = [*FLAGS, *scheme, f"--user-data-dir={folder}/user", f"--window-size={max(width, 500)},{height}"]
        done = subprocess.run([CHROMIUM, *flags, *words, frame.as_uri()], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def ask(page, width, dark, function):
    """The value of a JavaScript function on the page, and the lines that it caused on the console."""
    dom, log = run_browser(page, width, dark, ["--dump-dom"], function)
    answer = dom.split("<body", 1)[1].split(">", 1)[1].rsplit("</body>", 1)[0]
    return json.loads(html.unescape(answer)), [line for line in log.splitlines() if "CONSOLE" in line]


def main(page, folder):
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for width, dark in ((1280, False), (1280, True), (400, False), (400, True)):
        height, _ = ask(page, width, dark, SIZE)
        file = folder / f"{width}-{'dark' if dark else 'light'}.png"
        run_browser(page, width, dark, [f"--screenshot={file}"], height=height, answer=False)
        print(f"{file}: {height} pixels high")


if __name__ == "__main__":
    main(*sys.argv[1:3])
