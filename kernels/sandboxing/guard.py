"""The sandbox's weak isolation, for machines that allow no namespaces: the kernel under Python's audit hook.

Run by sandbox.py as `python -I guard.py PLAN.json SCRIPT`. The Kaggle folders are a tree of links, named to
the kernel by HMS_KAGGLE_ROOT. Python code cannot use sockets, start processes, write outside the working and
temporary folders, read the hidden folders or import the project.

What it cannot hold: native code (a file written by polars or torch's C++, a socket opened in Rust) raises no
audit event; nothing here is a wall against malice. It finds mistakes; the namespace keeps them in.
"""

import json
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NETWORK = {"connect", "bind", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "gethostbyaddr"}
NETWORK_EVENTS = {f"socket.{name}" for name in NETWORK}
PROCESSES = {"system", "exec", "fork", "forkpty", "posix_spawn", "spawn"}
PROCESS_EVENTS = {"subprocess.Popen", "pty.spawn"} | {f"os.{name}" for name in PROCESSES}

Positions = dict[str, list[tuple[int, int | None]]]
# Event -> positions of (path, dir_fd) in its arguments. These change a name in a folder ...
NAMES: Positions = {
    "os.remove": [(0, 1)],
    "os.rmdir": [(0, 1)],
    "os.mkdir": [(0, 2)],
    "os.rename": [(0, 2), (1, 3)],
    "os.link": [(0, 2), (1, 3)],  # the origin too: writing through a second name is writing
    "os.symlink": [(1, 2)],
}
# ... and these what the name leads to.
CONTENTS: Positions = {
    "os.truncate": [(0, None)],
    "os.chmod": [(0, 2)],
    "os.chown": [(0, 3)],
    "os.utime": [(0, 3)],
    "os.setxattr": [(0, None)],
    "os.removexattr": [(0, None)],
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
DEVICES = ["/dev/null", "/dev/shm"]


def inside(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def locate(path: Any, folder_fd: int | None, follow: bool) -> str:
    """The real path an event means; without following, that of the name itself."""
    if isinstance(path, int):
        return os.path.realpath(f"/proc/self/fd/{path}")
    text = os.fsdecode(path)
    if folder_fd is not None and folder_fd >= 0:
        text = os.path.join(f"/proc/self/fd/{folder_fd}", text)
    if follow:
        return os.path.realpath(text)
    return os.path.join(os.path.realpath(os.path.dirname(text) or "."), os.path.basename(text))


def make_hook(writable: list[str], hidden: list[str], visible: list[str]) -> Callable[[str, tuple[Any, ...]], None]:
    """A hook that raises PermissionError, which libraries that try and do without already expect."""

    def check_write(path: str, event: str) -> None:
        if not inside(path, writable):
            raise PermissionError(f"sandbox: {event} outside the working folder refused: {path}")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NETWORK_EVENTS:
            raise PermissionError(f"sandbox: no network, {event} refused: {arguments[-1]}")
        if event in PROCESS_EVENTS:
            raise PermissionError(f"sandbox: {event} refused: the kernel is one process")
        if event in NAMES or event in CONTENTS:
            for at, folder_at in NAMES.get(event) or CONTENTS[event]:
                folder_fd = None if folder_at is None else arguments[folder_at]
                check_write(locate(arguments[at], folder_fd, follow=event in CONTENTS), event)
        elif event == "open" and not isinstance(arguments[0], int):
            path = locate(arguments[0], None, follow=True)
            if arguments[2] & WRITING:
                check_write(path, "opening for writing")
            check_read(path)
        elif event in ("os.listdir", "os.scandir") and not isinstance(arguments[0], int):
            check_read(locate(arguments[0] or ".", None, follow=True))

    def check_read(path: str) -> None:
        if inside(path, hidden) and not inside(path, visible):
            raise PermissionError(f"sandbox: the kernel would not find this on Kaggle: {path}")

    return hook


class Blocker:
    """The first finder asked: the project's packages do not exist, installed or not."""

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r} (sandbox: it is the project's)", name=name)


def main(plan_file: str, script: str) -> None:
    plan = json.loads(Path(plan_file).read_text(encoding="utf-8"))
    root, working = Path(plan["kaggle"]), f"{plan['kaggle']}/working"
    for target, source in plan["mounts"].items():
        (root / "input" / target).parent.mkdir(parents=True, exist_ok=True)
        (root / "input" / target).symlink_to(source)
    os.chdir(working)
    os.makedirs(os.environ["HOME"], exist_ok=True)
    own = [os.path.realpath(path) for path in (working, os.environ["TMPDIR"])]
    visible = [*own, os.path.realpath(root), *plan["kept"], *plan["mounts"].values()]
    sys.meta_path.insert(0, Blocker(plan["packages"]))
    sys.path.insert(0, str(Path(script).parent))
    sys.argv = [script]
    sys.addaudithook(make_hook(own + DEVICES, plan["hidden"], visible))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
