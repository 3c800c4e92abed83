"""A page in Debian's chromium, wide or narrow, light or dark: what it says of itself."""

import html
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

CHROMIUM = shutil.which("chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
# In a frame, because no window is narrower than 500 pixels. The page sends what it finds to the frame's owner.
FRAME = """<body style="margin: 0">
<iframe src="page.html" style="width: {width}px; height: {height}px; border: 0"></iframe>
<script>addEventListener("message", event => {{ document.body.textContent = event.data; }})</script>"""
SEND = """<script>addEventListener("load", () => parent.postMessage(JSON.stringify(({function})()), "*"))</script>"""
HEIGHT = 900


def ask(page, width, dark, function):
    """The value of a JavaScript function on the page, and the lines that it caused on the console."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(page).read_text(encoding="utf-8")
        (Path(folder) / "page.html").write_text(text.replace("</body>", SEND.format(function=function) + "</body>"))
        frame = Path(folder) / "frame.html"
        frame.write_text(FRAME.format(width=width, height=HEIGHT))
        scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
        flags = [*FLAGS, *scheme, f"--user-data-dir={folder}/user", f"--window-size={max(width, 500)},{HEIGHT}"]
        words = [CHROMIUM, *flags, "--dump-dom", frame.as_uri()]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    answer = done.stdout.split("<body", 1)[1].split(">", 1)[1].rsplit("</body>", 1)[0]
    return json.loads(html.unescape(answer)), [line for line in done.stderr.splitlines() if "CONSOLE" in line]
