"""What happened in a run: for people as lines, and as report.json."""

import resource
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.files import write_json
from common.schema import PATTERNS, TEST_TABLE
from infer.recordings import RowRecordings

SHOWN = 5  # entries of each kind that are printed; report.json has all
FEWEST_TO_COMPARE = 30  # EEGs whose mean is compared with the prior
SHIFT, SHIFT_ERRORS = 0.1, 4.0  # a class mean is far from the prior: by so much, and by so many standard errors


@dataclass
class SubmissionReport:
    """What a run did and found. Lists hold every case; `failure` is what ended the run before its end."""

    rows: int = 0
    eegs: int = 0
    devices: list[str] = field(default_factory=list)
    models: dict[str, dict[str, float]] = field(default_factory=dict)  # name -> weight, nets
    manifests: dict[str, str] = field(default_factory=dict)  # name -> sha256 of its manifest.json
    views: list[str] = field(default_factory=list)
    ids_of: str = TEST_TABLE  # where the rows to answer come from; in the hidden run it may have to be another
    dropped: list[str] = field(default_factory=list)  # what was left out: by damage, or for want of time
    warnings: list[str] = field(default_factory=list)
    fallbacks: list[dict[str, str]] = field(default_factory=list)  # eeg_id, answer, why
    rebuilt_spectrograms: list[dict[str, str]] = field(default_factory=list)  # eeg_id, why
    repaired: list[dict[str, str]] = field(default_factory=list)  # eeg_id, what
    class_means: dict[str, float] = field(default_factory=dict)
    prior: dict[str, float] = field(default_factory=dict)  # of training, to compare the means with
    seconds: dict[str, Any] = field(default_factory=dict)  # total, stages, models, views
    memory_mb: dict[str, float] = field(default_factory=dict)  # the largest that was used: ram, and each GPU's
    failure: str | None = None

    def warn(self, warning: str) -> None:
        """Each warning once, at once on the screen and again at the end."""
        if warning not in self.warnings:
            self.warnings.append(warning)
            print(f"WARNING: {warning}", file=sys.stderr, flush=True)

    def note_row(self, row: RowRecordings, answers: dict[str, np.ndarray], late: str = "") -> None:
        """Count and name whatever was unusual about one EEG.

        answers: (6,) of each model that was to be asked; late: why some were not, where the recordings are sound.
        """
        eeg_id = str(row.eeg_id)
        self.repaired += [{"eeg_id": eeg_id, "what": what} for what in row.repaired]
        if row.rebuilt:
            self.rebuilt_spectrograms.append({"eeg_id": eeg_id, "why": row.rebuilt})
        silent = ", ".join(name for name, answer in answers.items() if not np.isfinite(answer).all())
        if not answers:
            self.fallbacks.append({"eeg_id": eeg_id, "answer": "prior", "why": "no model left"})
        elif silent:
            answer = "prior" if silent == ", ".join(answers) else f"blend without {silent}"
            why = "; ".join(row.unreadable) or late or f"{silent} gave no finite answer"
            self.fallbacks.append({"eeg_id": eeg_id, "answer": answer, "why": why})

    def note_means(self, predicted: np.ndarray, prior: tuple[float, ...]) -> None:
        """Class means of what models predicted (eegs, 6), and whether they are far from the training prior."""
        self.prior = {pattern: round(share, 6) for pattern, share in zip(PATTERNS, prior, strict=True)}
        if not len(predicted):
            return
        means = predicted.mean(axis=0)
        self.class_means = {pattern: round(float(mean), 6) for pattern, mean in zip(PATTERNS, means, strict=True)}
        errors = predicted.std(axis=0) / np.sqrt(len(predicted))
        far = [
            f"{pattern} {mean:.2f} instead of {share:.2f}"
            for pattern, mean, share, error in zip(PATTERNS, means, prior, errors, strict=True)
            if abs(mean - share) > max(SHIFT, SHIFT_ERRORS * error)
        ]
        if far and len(predicted) >= FEWEST_TO_COMPARE:
            self.warn(f"predictions are shifted against the training prior: {', '.join(far)}")

    def lines(self) -> list[str]:
        """The report in a few lines; every kind of finding is counted, the first few are named."""
        total = self.seconds.get("total", 0.0)
        summary = [f"{self.rows} rows, {self.eegs} EEGs in {total:.1f} s on {', '.join(self.devices) or 'no device'}"]
        summary += [f"model {name}: weight {m['weight']:.3f}, {m['nets']} nets" for name, m in self.models.items()]
        measured = {"seconds": self.seconds.get("stages"), "MB at most": self.memory_mb}
        if len(self.views) > 1:
            measured["seconds of each view"] = self.seconds.get("views")
        for what, parts in measured.items():
            summary += [f"{what}: {', '.join(f'{part} {value:.1f}' for part, value in parts.items())}"] if parts else []
        summary += [f"DROPPED {what}" for what in self.dropped]
        if self.eegs and sum(entry["answer"] == "prior" for entry in self.fallbacks) == self.eegs:
            summary.append("WARNING: not one EEG could be predicted, every row is the prior")
        kinds = (("fallback", self.fallbacks), ("rebuilt spectrogram", self.rebuilt_spectrograms))
        for kind, entries in (*kinds, ("repaired recording", self.repaired)):
            summary.append(f"{kind}s: {len(entries)}")
            summary += ["  " + ", ".join(entry.values()) for entry in entries[:SHOWN]]
            summary += [f"  ... and {len(entries) - SHOWN} more in the report"] if len(entries) > SHOWN else []
        if self.class_means:
            compared = (f"{name} {mean:.3f} ({self.prior[name]:.3f})" for name, mean in self.class_means.items())
            summary.append("class means (training prior): " + ", ".join(compared))
        summary += [f"WARNING: {warning}" for warning in self.warnings]
        summary += [f"FAILED: {self.failure}; what was answered until then stands"] if self.failure else []
        return summary


def peak_memory_mb() -> float:
    """The most memory that this process has had."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)  # Linux counts it in KiB


def write_report(path: Path, report: SubmissionReport) -> None:
    write_json(path, asdict(report))
