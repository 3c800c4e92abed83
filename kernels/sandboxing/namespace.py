"""The sandbox's strong isolation: becomes the kernel inside namespaces of its own.

Run by sandbox.py as `python -I namespace.py PLAN.json SCRIPT`. A new root shows this machine read-only, with
nothing of the project, /kaggle as Kaggle mounts it and no network but an own loopback; then every privilege
is dropped. Works as root and wherever ordinary users may make user namespaces. Exit code 125: it may not.
Not held: processes and unix sockets of this user on this machine stay within reach.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

NOT_ALLOWED = 125  # as env and docker say "could not even start it"

# linux/sched.h, linux/mount.h, linux/prctl.h, linux/if.h
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_UNBINDABLE, MS_PRIVATE = 0x1000, 0x4000, 0x20000, 0x40000
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def call(name: str, *arguments: Any) -> None:
    """A C library function that answers 0, or an OSError that names it."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}{arguments}: {os.strerror(code)}")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    words = [word.encode() for word in (source, target, kind)]
    call("mount", *words, ctypes.c_ulong(flags), options.encode())


def bind(source: str, target: str) -> None:
    """Show source, and what is mounted below it, at target as well."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    mount(source, target, "", MS_BIND | MS_REC)


def seal(path: str) -> None:
    """Read-only from here down. Sets one flag only: the flags of mounts from outside are locked."""
    attributes = struct.pack("=4Q", MOUNT_ATTR_RDONLY, 0, 0, 0)
    call("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), AT_RECURSIVE, attributes, len(attributes))


def unshare() -> None:
    """Own users (we are root there), mounts and network; of the network only loopback, and that up."""
    user, group = os.getuid(), os.getgid()
    call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def show_machine(root: str) -> None:
    """The machine's own folders below the new root, read-only; /kaggle is an empty folder yet."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", options="mode=755")
    mount("none", root, "", MS_UNBINDABLE)  # else binding the folder it lies in would show it again
    for entry in os.scandir("/"):
        if entry.is_symlink():
            os.symlink(os.readlink(entry), f"{root}/{entry.name}")
        elif entry.is_dir() and entry.name != "kaggle":
            bind(entry.path, f"{root}/{entry.name}")
    os.makedirs(f"{root}/kaggle")
    seal(root)


def cover(root: str, folders: list[str]) -> list[str]:
    """Empty folders in the place of these; says which there were to cover."""
    covered = []
    for path in folders:
        if os.path.isdir(root + path):  # not where it lies in one that is covered already
            mount("tmpfs", root + path, "tmpfs", options="mode=1777")
            covered.append(root + path)
    return covered


def hide(root: str, hidden: list[str], kept: list[str], packages: list[str]) -> None:
    """Cover the hidden folders, bind back what must stay visible in them, cover packages inside that."""
    cover(root, ["/tmp", "/dev/shm"])  # the kernel's own scratch
    for path in hidden:
        # Those below /tmp are made again in the scratch, to be covered there too: else what is bound back below them,
        # as the environment in the project, would make them part of the scratch, which the kernel may write.
        os.makedirs(root + path, exist_ok=True)
    covered = cover(root, hidden)
    for path in kept:
        bind(path, root + path)
        seal(root + path)
    for path in covered + cover(root, packages):
        seal(path)


def build_root(plan: dict[str, Any]) -> None:
    root, kaggle = plan["root"], f"{plan['root']}/kaggle"
    show_machine(root)
    hide(root, plan["hidden"], plan["kept"], plan["installed"])
    mount("tmpfs", kaggle, "tmpfs", options="mode=755")
    os.makedirs(f"{kaggle}/working")
    bind(f"{plan['kaggle']}/src", f"{kaggle}/src")
    os.makedirs(f"{kaggle}/input")
    for target, source in plan["mounts"].items():
        bind(source, f"{kaggle}/input/{target}")
    seal(kaggle)
    bind(f"{plan['kaggle']}/working", f"{kaggle}/working")


def drop_privileges() -> None:
    """Root without any capability, also after exec: nothing can be remounted."""
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main(plan_file: str, script: str) -> None:
    plan = json.loads(Path(plan_file).read_text(encoding="utf-8"))
    try:
        unshare()
        build_root(plan)
        os.chroot(plan["root"])
        os.chdir("/kaggle/working")
        drop_privileges()
        os.makedirs(os.environ["HOME"], exist_ok=True)
    except OSError as error:
        print(f"no namespace: {error}", file=sys.stderr)
        sys.exit(NOT_ALLOWED)
    os.execv(sys.executable, [sys.executable, "-B", "-u", script])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
