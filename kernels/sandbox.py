"""Runs a kernel folder on this machine as Kaggle would, before anything is pushed.

Same mounts, read-only; no network; nothing of the project, installed or not; a time limit. The isolation is that of
sandboxing/namespace.py where the machine allows it, else that of sandboxing/guard.py, which is weaker.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from common.files import sha256_of, write_json
from sandboxing.mounts import LAYOUTS, MIXED, SandboxError, fingerprints, make_plan, plan_mounts, read_kernel
from sandboxing.namespace import NOT_ALLOWED

HERE = Path(__file__).resolve().parent
# What a kernel's libraries need from outside to find the GPU and to respect a limit on threads.
PASSED_ON = ("PATH", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
PASSED_ON += ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    timed_out: bool
    seconds: float
    peak_memory_mb: float


def helper(isolation: str, plan_file: Path, script: str) -> list[str]:
    return [sys.executable, "-I", "-B", "-u", str(HERE / "sandboxing" / f"{isolation}.py"), str(plan_file), script]


def environment(isolation: str, stage: Path, rerun: bool) -> dict[str, str]:
    """A clean environment: nothing of the user's shell decides what the kernel does."""
    temporary = "/tmp" if isolation == "namespace" else str(stage / "tmp")  # the namespace has its own /tmp
    variables = {"LANG": "C.UTF-8"} | {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    variables |= {"HOME": f"{temporary}/home", "TMPDIR": temporary, "PYTHONNOUSERSITE": "1"}
    if isolation == "guard":
        variables["HMS_KAGGLE_ROOT"] = str(stage / "kaggle")
    if rerun:
        variables["KAGGLE_IS_COMPETITION_RERUN"] = "1"
    return variables


def choose_isolation(wanted: str, stage: Path, plan_file: Path) -> str:
    """The namespace if it is wanted and works: tried with the real plan and an empty script."""
    if wanted == "guard":
        return "guard"
    trial = subprocess.run(
        helper("namespace", plan_file, "/dev/null"),
        env=environment("namespace", stage, rerun=False),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if trial.returncode == 0:
        return "namespace"
    if trial.returncode != NOT_ALLOWED:
        raise SandboxError(f"The interpreter does not start in the sandbox: {trial.stderr.strip()}")
    if wanted == "namespace":
        raise SandboxError(f"This machine refuses --isolation namespace ({trial.stderr.strip()}); use guard.")
    print(f"sandbox: falling back to the guard, which cannot hold native code ({trial.stderr.strip()})")
    return "guard"


def copy_output(pipe: IO[bytes], log: IO[bytes], quiet: bool) -> None:
    for chunk in iter(lambda: os.read(pipe.fileno(), 65536), b""):
        log.write(chunk)
        log.flush()
        if not quiet:
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()


def run(command: list[str], variables: dict[str, str], log_file: Path, limit: float, quiet: bool) -> Outcome:
    """Run to the end or the limit of seconds; then end all that the kernel left in its process group."""
    start = time.monotonic()
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        copier = threading.Thread(target=copy_output, args=(process.stdout, log, quiet), daemon=True)
        copier.start()
        timed_out = False
        try:
            # WNOWAIT leaves the ended process in place, so that its id cannot be another's when we kill.
            while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                timed_out = time.monotonic() - start > limit
                if timed_out:
                    break
                time.sleep(0.02)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        copier.join(timeout=10)
    seconds = time.monotonic() - start
    return Outcome(process.returncode, timed_out, round(seconds, 2), round(usage.ru_maxrss / 1024, 1))


def is_own_file(path: Path) -> bool:
    """Not a link, which could lead to a file outside the sandbox."""
    return path.is_file() and not path.is_symlink()


def make_report(outcome: Outcome, working: Path, out: Path) -> dict[str, Any]:
    """The facts of the run; copies submission.csv into OUT."""
    submission, own_report = working / "submission.csv", working / "report.json"
    rows, kernel = None, None
    if is_own_file(submission):
        shutil.copyfile(submission, out / submission.name)
        rows = max(len(submission.read_bytes().splitlines()) - 1, 0)
    if is_own_file(own_report):
        try:
            kernel = json.loads(own_report.read_bytes())
        except ValueError as error:
            print(f"sandbox: the kernel's report.json is not JSON: {error}")
    failure = kernel.get("failure") if isinstance(kernel, dict) else None
    files = [path for path in working.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {
        "ok": outcome.exit_code == 0 and not outcome.timed_out and rows is not None and failure is None,
        **asdict(outcome),
        "submission_rows": rows,
        "outputs": sorted(str(path.relative_to(working)) for path in files),
        "kernel": kernel,
    }


def sandbox(options: argparse.Namespace) -> dict[str, Any]:
    kernel = read_kernel(options.kernel_dir)
    mounts = plan_mounts(kernel, options.competition, options.datasets, options.layout)
    # Of what is about to run, not of what lies there after it: publishing asks for exactly these.
    runs = {"kernel_sha256": sha256_of(kernel.script), "datasets": fingerprints(options.datasets)}
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("submission.csv", "report.json", "log.txt"):  # of an earlier run
        (options.out / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="hms-sandbox-") as folder:
        stage = Path(folder).resolve()
        plan = make_plan(stage, kernel, mounts, options.competition)
        plan_file = stage / "plan.json"
        plan_file.write_text(json.dumps(plan), encoding="utf-8")
        isolation = choose_isolation(options.isolation, stage, plan_file)
        print(f"sandbox: {kernel.script} in a {isolation}, {options.layout} layout", flush=True)
        kaggle = Path("/kaggle") if isolation == "namespace" else stage / "kaggle"
        command = helper(isolation, plan_file, str(kaggle / "src" / "script.py"))
        variables = environment(isolation, stage, options.rerun)
        log_file = options.out / "log.txt"
        outcome = run(command, variables, log_file, options.hours * 3600, options.quiet)
        report = make_report(outcome, stage / "kaggle" / "working", options.out)
    report |= {"isolation": isolation, "layout": options.layout, **runs}
    write_json(options.out / "report.json", report)
    return report


def summary(report: dict[str, Any], out: Path) -> str:
    spent = f"{report['seconds']} s, peak memory {report['peak_memory_mb']} MB"
    if report["ok"]:
        return f"sandbox: passed with {report['submission_rows']} rows in {spent}: {out / 'submission.csv'}"
    if report["timed_out"]:
        reason = "was ended at the time limit (--hours)"
    elif report["exit_code"]:
        reason = f"ended with exit code {report['exit_code']}"
    elif report["submission_rows"] is not None:
        reason = f"says that it did not end well ({report['kernel']['failure']})"
    else:
        reason = f"left no submission.csv in its working folder but {report['outputs'] or 'nothing'}"
    return f"sandbox: FAILED: the kernel {reason} after {spent}; see {out / 'log.txt'}"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python kernels/sandbox.py",
        description="Run a kernel as Kaggle would: same mounts, no network, no project files, a time limit.\n"
        "Leaves submission.csv, report.json and log.txt in --out. Exit code 0: the kernel ended well,\n"
        "in time, with a submission.csv, and no failure in its report; 1: it did not; 2: it was not run.",
        epilog="example:\n  python kernels/sandbox.py kernels/hms-inference --out demo/sandbox \\\n"
        "      --competition demo/competition --datasets demo/weights/hms-smoke-wave-bipolar",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("kernel_dir", type=Path, help="folder with kernel-metadata.json and its code_file")
    add("--competition", type=Path, required=True, metavar="DIR", help="competition folder; truth/ is not mounted")
    add("--datasets", type=Path, nargs="+", action="extend", default=[], metavar="DIR", help="datasets to mount")
    add("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    add("--hours", type=float, default=9.0, help="time limit, may be a fraction (default: 9)")
    where = "where Kaggle mounts things: both of its ways, or by turns (default: nested)"
    add("--layout", choices=[*sorted(LAYOUTS), MIXED], default="nested", help=where)
    add("--isolation", choices=("auto", "namespace", "guard"), default="auto", help="default: the best allowed")
    add("--rerun", action="store_true", help="as the hidden re-run: sets KAGGLE_IS_COMPETITION_RERUN")
    add("--quiet", action="store_true", help="do not show the kernel's output while it runs")
    options = parser.parse_args(argv)
    if not 0 < options.hours < float("inf"):
        parser.error("--hours must be above 0 and finite")
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    for stop in (signal.SIGTERM, signal.SIGHUP):  # so that an ended sandbox ends its kernel and clears up
        signal.signal(stop, lambda number, _: sys.exit(128 + number))
    try:
        report = sandbox(options)
    except (SandboxError, OSError) as error:
        print(f"sandbox: not run. {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sandbox: interrupted", file=sys.stderr)
        return 130
    print(summary(report, options.out))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
