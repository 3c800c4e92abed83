"""The numbers behind the findings: of each recording, and of each electrode over all of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.schema import ELECTRODES
from train.doctor.measure import SCALP, Facts
from train.store_index import EEGS

SHARE_BINS = (0.0, 1e-9, 0.001, 0.01, 0.1, 0.5, 1.0 - 1e-9, 1.0)  # none, ever more, all
MICROVOLT_BINS = (0.0, 1.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5, 1e9)
DIGITS = 5  # kept of a number


def plain(value: float) -> float | None:
    """A number for JSON: None where there is none."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def over_scalp(values: np.ndarray, facts: Facts) -> np.ndarray:
    return values[SCALP] if facts.source.half is EEGS else values


def recording_numbers(facts: Sequence[Facts]) -> dict[str, list[Any]]:
    """Of each readable recording; lists in the same order."""
    read = [one for one in facts if not one.error]
    return {
        "id": [one.source.id for one in read],
        "n_time": [one.n_time for one in read],
        "missing": [plain(over_scalp(one.missing, one).mean()) for one in read],
        "flat": [plain(over_scalp(one.flat, one).mean()) for one in read],
        "largest": [plain(np.fmax.reduce(over_scalp(one.largest, one))) for one in read],
    }


def electrode_numbers(facts: Sequence[Facts]) -> list[dict[str, Any]]:
    """Of each electrode, over the readable EEGs; empty where there are none."""
    read = [one for one in facts if not one.error]
    if not read:
        return []
    missing, flat, largest = (np.stack([getattr(one, name) for one in read]) for name in ("missing", "flat", "largest"))
    return [
        {
            "electrode": electrode,
            "missing": plain(missing[:, k].mean()),
            "flat": plain(flat[:, k].mean()),
            **largest_numbers(largest[:, k][np.isfinite(largest[:, k])]),
            "missing_files": np.histogram(missing[:, k], SHARE_BINS)[0].tolist(),
            "flat_files": np.histogram(flat[:, k], SHARE_BINS)[0].tolist(),
            "largest_files": np.histogram(largest[:, k][np.isfinite(largest[:, k])], MICROVOLT_BINS)[0].tolist(),
        }
        for k, electrode in enumerate(ELECTRODES)
    ]


def largest_numbers(largest: np.ndarray) -> dict[str, float | None]:
    """Median, 95th percentile and maximum; None where the electrode was never recorded."""
    quantiles = np.quantile(largest, [0.5, 0.95, 1.0]) if len(largest) else [np.nan] * 3
    return dict(zip(("largest_median", "largest_95", "largest_max"), map(plain, quantiles), strict=True))
