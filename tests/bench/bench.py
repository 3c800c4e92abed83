"""How fast the kit is: ratios to named references, measured in turn in one run on two cores.

    python tests/bench/bench.py                             every row, about four minutes
    python tests/bench/bench.py --only P1,P3 --out bench.json

Prints a table and writes bench.json. The exit code is 1 when a result differs from its reference by more than its
bound, and 0 however slow the kit is: other machines, other ratios.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "2")  # read when polars is imported
import cases
import measure
import samples
import submit_case
import torch

from common.memory import keep_freed_memory

Row = dict[str, Any]
CASES = {
    "P1": cases.mel_case,
    "P3": cases.percentile_case,
    "P4": cases.sequence_case,
    "P5": cases.kaggle_case,
    "P6": cases.spectrogram_case,
}
OPENED = {"P2": cases.files_in_two_processes, "P7": cases.stored_case}  # processes and files to be closed again
LEAST_SPEED_UP = 1.5  # of two threads in a matrix product, when both cores are free
IDS = ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8")


def finish(row: Row) -> Row:
    """Adds what follows from the times: the ratio, the reach met or not, the distance to the floor."""
    ratio = row["reference_ms"] / row["ours_ms"]
    distance = row["ours_ms"] / row["floor_ms"]
    return row | {"ratio": ratio, "reach_met": ratio >= row["reach"], "times_floor": distance}


def measure_case(case: cases.Case, rates: dict[int, measure.Rates]) -> Row:
    with measure.threads(case.threads or case.cores):
        error = case.error(case.reference(), case.ours())
        reference, ours = measure.interleaved(case.reference, case.ours)
    return finish(
        {
            "id": case.id,
            "what": case.what,
            "cores": case.cores,
            "reference_ms": 1e3 * reference / case.items,
            "ours_ms": 1e3 * ours / case.items,
            "reach": case.reach,
            "floor_ms": 1e3 * case.work.floor(rates[case.cores]),
            "error": error,
            "error_bound": case.bound,
        }
    )


def measure_submit(folder: Path, rates: measure.Rates) -> Row:
    reference, ours, error = submit_case.time_submit(folder)
    sampled = f"reference on {submit_case.SAMPLED}, scaled"
    return finish(
        {
            "id": "P8",
            "what": f"infer submit, {submit_case.EEGS} EEGs, 5 folds of B0 | pandas, librosa, batches of 8 ({sampled})",
            "cores": 2,
            "reference_ms": 1e3 * reference,
            "ours_ms": 1e3 * ours,
            "reach": submit_case.REACH,
            "floor_ms": 1e3 * submit_case.submit_work(folder).floor(rates),
            "error": error,
            "error_bound": submit_case.BOUND,
        }
    )


def measure_rows(only: list[str], folder: Path, rates: dict[int, measure.Rates]) -> list[Row]:
    rows = []
    with ExitStack() as stack:
        made = samples.make_samples(folder)
        for name in only:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            if name == "P8":
                rows.append(measure_submit(folder, rates[2]))
                continue
            case = stack.enter_context(OPENED[name](made)) if name in OPENED else CASES[name](made)
            rows.append(measure_case(case, rates))
    return rows


def show(rows: list[Row], rates: dict[int, measure.Rates]) -> None:
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    for n, rate in rates.items():
        products = f"{rate.float32 / 1e9:.0f} (float32) and {rate.float64 / 1e9:.0f} (float64) GFLOP/s"
        print(f"{n} thread{'s' * (n > 1)}: matrix product {products}, copy {rate.copy / 1e9:.1f} GB/s")
    if len(rates) > 1 and rates[2].float32 < LEAST_SPEED_UP * rates[1].float32:
        print("WARNING: two threads were hardly faster than one: the cores are busy, rows of two cores mean little")
    heads = f"{'reference':>10} {'ours':>10} {'ratio':>6} {'reach':>6} {'':4} {'floor':>9} {'x floor':>7}"
    print(f"\n{'':3} {'cores':>5} {heads}  error")
    for row in rows:
        times = f"{row['reference_ms']:10.2f} {row['ours_ms']:10.2f} {row['ratio']:6.1f} {row['reach']:6.0f}"
        met = "met" if row["reach_met"] else "no"
        error = f"{row['error']:.1e}" + (" TOO LARGE" if row["error"] > row["error_bound"] else "")
        print(
            f"{row['id']:3} {row['cores']:5} {times} {met:4} {row['floor_ms']:9.3f} {row['times_floor']:7.1f}  {error}"
        )
    print("\nmilliseconds; ratio: reference / ours; floor: the least work at this run's rates; what | reference:")
    for row in rows:
        print(f"  {row['id']}  {row['what']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(IDS), help=f"rows to measure, from {','.join(IDS)}")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="default: bench.json")
    options = parser.parse_args()
    only = options.only.upper().split(",")
    if unknown := [name for name in only if name not in IDS]:
        parser.error(f"--only: no row {', '.join(unknown)}; there are {', '.join(IDS)}")
    keep_freed_memory()  # as every command of the kit does
    started = time.monotonic()
    rates = {n: measure.measure_rates(n) for n in (1, 2)}
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_rows(only, Path(folder), rates)
    show(rows, rates)
    facts = {"rows": rows, "rates": {str(n): vars(rate) for n, rate in rates.items()}}
    options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"\n{time.monotonic() - started:.0f} s; wrote {options.out}")
    return int(any(row["error"] > row["error_bound"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
