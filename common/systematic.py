"""What many recordings have in common: where the first ones share a structural finding, reader and data do not fit."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from common.errors import KitError
from common.records import POWER_COLUMNS
from common.schema import ELECTRODES, SFREQ, SPECTROGRAM_STEP_SECONDS

OTHER_RATES = (50, 64, 100, 125, 128, 160, 240, 250, 256, 300, 400, 500, 512, 1000, 1024, 2000)  # Hz
FIRST_RECORDINGS, A_FEW = 20, 3  # more than a few of the first recordings with the same structural finding: systematic


class SystematicError(KitError):
    """Many recordings are made otherwise than expected. The message says how, what was expected and what to do."""


def systematic(structural: Sequence[Sequence[str]]) -> list[str]:
    """The structural findings that more than a few of the first recordings share, or all where there are few.

    structural: of each recording, in the order in which they are met.
    """
    first = structural[:FIRST_RECORDINGS]
    counts = Counter(finding for findings in first for finding in dict.fromkeys(findings))
    shared = [(finding, number) for finding, number in counts.items() if number > A_FEW or number == len(first)]
    return [f"{number} of the first {len(first)} files: {finding}" for finding, number in shared]


def another_rate(n_time: Sequence[int], expected: Sequence[float]) -> list[str]:
    """What is structural about the lengths of EEGs: most are as long as at another rate that amplifiers have.

    n_time: samples; expected: samples at 200 Hz. Nothing where lengths are as expected, or differ in any other way.
    """
    rates = SFREQ * np.array(n_time[:FIRST_RECORDINGS]) / np.array(expected[:FIRST_RECORDINGS])
    alike = {rate: int((np.abs(rates / rate - 1) < 0.005).sum()) for rate in OTHER_RATES}
    return [
        f"{n} of the first {len(rates)} files: as long as at {r} Hz" for r, n in alike.items() if n > len(rates) / 2
    ]


def refuse_systematic(folder: str, found: list[str]) -> None:
    """Raises SystematicError where something was found."""
    if found:
        raise SystematicError(f"{folder}: {'; '.join(found)}. {EXPECTED}")


EXPECTED = (
    f"What so many files have in common is no fault of a file. Expected are EEGs of {len(ELECTRODES)} columns "
    f"({', '.join(ELECTRODES[:3])} ... {ELECTRODES[-1]}) in microvolts at {SFREQ} Hz, and spectrograms of "
    f"{len(POWER_COLUMNS.fields)} columns ({', '.join(POWER_COLUMNS.fields[:2])} ... {POWER_COLUMNS.fields[-1]}) with "
    f"a row every {SPECTROGRAM_STEP_SECONDS} s. Download the competition's files again; if they are right, "
    "common/schema.py and common/records.py must be brought up to date"
)
