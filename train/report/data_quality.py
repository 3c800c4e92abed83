"""What `python -m train doctor --json` wrote, for the report: findings, the head, remarks on an EEG."""

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from common.schema import TRAIN_EEGS, TRAIN_SPECTROGRAMS, TRAIN_TABLE
from train.doctor.findings import FORMAT
from train.engine.run_folder import RunError
from train.report.charts import circle, path, svg, text

SHOWN_CASES = 6
# The 10-20 system from above, nose up: to the right and forwards, of the head's radius.
PLACES = {
    **{"Fp1": (-0.27, 0.84), "Fp2": (0.27, 0.84)},
    **{"F7": (-0.71, 0.52), "F3": (-0.38, 0.44), "Fz": (0, 0.42), "F4": (0.38, 0.44), "F8": (0.71, 0.52)},
    **{"T3": (-0.88, 0), "C3": (-0.44, 0), "Cz": (0, 0), "C4": (0.44, 0), "T4": (0.88, 0)},
    **{"T5": (-0.71, -0.52), "P3": (-0.38, -0.44), "Pz": (0, -0.42), "P4": (0.38, -0.44), "T6": (0.71, -0.52)},
    **{"O1": (-0.27, -0.84), "O2": (0.27, -0.84)},
}
CENTRE, RADIUS = (170, 128), 108  # of the head, in a small chart


def read_doctor(path: Path) -> dict[str, Any]:
    """The file's values. Raises RunError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise RunError(f"{path}: not what `python -m train doctor --json` writes (format {FORMAT}); run it again")
    return values


def remarks_on(doctor: dict[str, Any] | None, eeg_id: int, spectrogram_id: int) -> list[str]:
    """What the doctor found in one EEG and its spectrogram, in words."""
    if doctor is None:
        return []
    eegs = doctor["recordings"].get(TRAIN_EEGS, {"id": []})
    place = eegs["id"].index(eeg_id) if eeg_id in eegs["id"] else None
    peak, missing, flat = (None if place is None else eegs[name][place] for name in ("largest", "missing", "flat"))
    remarks = [] if peak is None else [f"largest amplitude {peak:,.0f} \u00b5V"]
    remarks += [f"{100 * missing:.2g} % of its samples are missing"] if missing else []
    remarks += [f"{100 * flat:.2g} % of its seconds are flat"] if flat else []
    ids = {TRAIN_EEGS: eeg_id, TRAIN_SPECTROGRAMS: spectrogram_id, TRAIN_TABLE: eeg_id}
    found = [finding["what"] for finding in doctor["findings"] if ids.get(finding["where"]) in finding["ids"]]
    return remarks + [f"among the {what}" for what in found]


def head_map(lines: list[dict[str, Any]], column: str, worst: float, unit: str, what: str) -> Markup:
    """One value of every scalp electrode on the head, darker up to `worst`."""
    (x, y), marks = CENTRE, []
    nose = [(x - 12, y - RADIUS + 2), (x, y - RADIUS - 13), (x + 12, y - RADIUS + 2)]
    marks += [path(nose, "head"), circle(x, y, RADIUS, "head")]
    for line in lines:
        if line["electrode"] in PLACES and line[column] is not None:
            right, forwards = PLACES[line["electrode"]]
            at, value = (round(x + RADIUS * right, 1), round(y - RADIUS * forwards, 1)), line[column]
            shade = min(value / worst, 1) if worst > 0 else 0
            shown = f"{100 * value:.2g}" if unit == "%" else f"{value:,.0f}"
            electrode = circle(*at, 17, "electrode", f"{line['electrode']}: {shown} {unit}")
            marks.append(f'<g style="--v:{shade:.3f}">{electrode}</g>')
            marks.append(text(at[0], at[1] - 1, line["electrode"], "name"))
            marks.append(text(at[0], at[1] + 10, shown, "value"))
    return svg(marks, what, height=248)


def quality(doctor: dict[str, Any] | None) -> dict[str, Any] | None:
    """The section's values; None where the doctor was not asked."""
    if doctor is None:
        return None
    lines = doctor["electrodes"].get(TRAIN_EEGS, [])
    maps = []
    for column, unit, title in (
        ("missing", "%", "samples missing"),
        ("largest_median", "\u00b5V", "largest amplitude"),
    ):
        known = [line[column] for line in lines if line["electrode"] in PLACES and line[column] is not None]
        if known:
            maps.append((title, unit, head_map(lines, column, max(known), unit, f"{title} by electrode, {unit}")))
    return {
        "can_start": doctor["can_start"],
        "counts": {severity: n for severity, n in doctor["counts"].items() if n},
        "findings": doctor["findings"],
        "tables": doctor["tables"],
        "maps": maps,
        "shown_cases": SHOWN_CASES,
    }
