"""The report: runs and their blend on one page that opens anywhere, without network, script or other files."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import write_via
from common.schema import MANY_VOTES, PATTERNS
from train.data.labels import vote_totals
from train.evaluate.scores import RESAMPLES, many_votes
from train.provenance import kit_commit
from train.report import numbers
from train.report.charts import Axis, patients_against_prior, reliability_chart
from train.report.data_quality import quality, read_doctor, remarks_on
from train.report.format import FILTERS, candidate_score
from train.report.ledger import read_ledger
from train.report.load import KINDS, TOO_GOOD, Entry, ReportData, load_report_data
from train.report.numbers import Score
from train.report.run_details import run_details, training_of

TEMPLATES = Path(__file__).parent / "templates"
WORST_AND_BEST = 20


@dataclass(frozen=True)
class Sources:
    """What a report is made of. For what is None the page says how to get it."""

    runs_and_blend: list[Path]
    competition: Path | None = None
    truth: Path | None = None
    doctor: Path | None = None
    ledger: Path | None = None


# ---- sections


def axis_of(scores: Iterable[Score], zero: bool = False) -> Axis:
    """A scale that holds all of them with their intervals."""
    return Axis.around([value for score in scores for value in (score.value, score.low, score.high)], zero=zero)


def summary(data: ReportData) -> dict[str, Any]:
    """The headline: what score to expect, beside what needs no model."""
    entry, entries = data.headline(), data.entries
    scores = numbers.scores_on(entries, data.patient, data.scored)
    single = numbers.scores_on(entries, data.patient, numbers.hidden_test_like(data))
    prior, floor = (data.of_kind(kind) for kind in ("prior", "floor"))
    place, confusion = entries.index(entry), numbers.confusion(data, entry)
    own, of_prior = scores[place].value, scores[entries.index(prior)].value
    others = [each for each in entries if each is not entry and each.kind != "uniform"]
    return {
        "entry": entry,
        "score": scores[place],
        "single": single[place],
        "single_rows": int(numbers.hidden_test_like(data).sum()),
        "lines": list(zip(entries, scores, single, strict=True)),
        "less": 1 - own / of_prior,
        "closed": (of_prior - own) / (of_prior - scores[entries.index(floor)].value) if floor else None,
        "prior": scores[entries.index(prior)],
        "floor": scores[entries.index(floor)] if floor else None,
        "axis": axis_of(scores, zero=True),
        "confusion": confusion,
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "differences": list(zip(others, numbers.differences(data, entry, others), strict=True)),
        "picked": data.blend is None and len(data.models()) > 1,
    }


def parts_and_axis(parts: list[numbers.Part]) -> dict[str, Any]:
    """Parts of the rows, and a scale on which all that is drawn of them lies."""
    return {"parts": parts, "axis": axis_of((score for part in parts for score in part.scores), zero=True)}


def patients(data: ReportData, entry: Entry) -> dict[str, Any]:
    lines = numbers.by_patient(data, entry)
    return {
        "lines": lines[: numbers.SHOWN_PATIENTS],
        "count": len(lines),
        "worse_than_prior": sum(line["kl"] > line["prior"] for line in lines),
        "worst_tenth": numbers.share_of_worst(lines),
        "median": float(np.median([line["kl"] for line in lines])),
        "chart": patients_against_prior(lines),
    }


def recordings(
    data: ReportData, entry: Entry, competition: Path | None, doctor: dict[str, Any] | None
) -> dict[str, Any]:
    """Cards of the worst and the best, with pictures if the competition's folder is given."""
    groups = [group.tolist() for group in numbers.worst_and_best(data, entry, WORST_AND_BEST)]
    pictures: dict[int, dict[str, Any]] = {}
    if competition:
        from train.report.recordings import draw_recordings  # needs torch, and nothing else of the report does

        pictures = draw_recordings(data, competition, [*groups[0], *groups[1]])
    worst, best = (
        [card(data, entry, row, doctor) | pictures.get(row, {}) | {"rank": rank} for rank, row in enumerate(group, 1)]
        for group in groups
    )
    return {"worst": worst, "best": best, "drawn": competition is not None}


def card(data: ReportData, entry: Entry, number: int, doctor: dict[str, Any] | None) -> dict[str, Any]:
    """Whose a row is, its votes, what every model predicts and what the doctor found."""
    row, votes = data.rows.row(number, named=True), data.votes[number]
    shown = [each for each in data.entries if each.kind != "uniform"]
    return {
        "quality": remarks_on(doctor, row["eeg_id"], row["spectrogram_id"]),
        "eeg": row["eeg_id"],
        "patient": row["patient_id"],
        "label": row["label_id"],
        "fold": row["fold"],
        "pattern": PATTERNS[votes.argmax()],
        "kl": float(entry.kl[number]),
        "total": int(vote_totals(votes[None])[0]),
        "votes": votes.tolist(),
        "shares": (votes / votes.sum()).tolist(),
        "predicted": entry.probabilities[number].tolist(),
        "entries": [(each, each.probabilities[number].tolist(), float(each.kl[number])) for each in shown],
    }


# ---- the page

CONTENTS = (
    ("top", "Score"), ("experiments", "Experiments"), ("training", "Training"), ("classes", "Classes"),
    ("votes", "Votes"), ("patients", "Patients"), ("confusion", "Confusion"), ("reliability", "Reliability"),
    ("blend", "Blend"), ("differences", "Differences"), ("worst", "Worst"), ("best", "Best"), ("data", "Data"),
    ("submissions", "Submissions"), ("details", "Details"),
)  # fmt: skip


def runs_of(data: ReportData) -> list[dict[str, Any]]:
    """The details of each run, and its two lines of scores: of the last epoch and of the best."""
    lines = data.evaluation.scores.to_dicts()
    return [
        run_details(name, run, data.experiments[name]) | {"scores": [line for line in lines if line["run"] == str(run)]}
        for name, run in data.runs.items()
    ]


def values_of(sources: Sources) -> dict[str, Any]:
    """Everything that the template shows. Raises RunError, BlendError, BlendInputError."""
    data = load_report_data(sources.runs_and_blend, sources.truth)
    doctor = read_doctor(sources.doctor) if sources.doctor else None
    ledger = read_ledger(sources.ledger)[::-1] if sources.ledger else None
    entry, scored = data.headline(), data.rows.filter(data.scored)
    curves, diagnostics, headline = numbers.reliability(data, entry), data.diagnostics, summary(data)
    return {
        "contents": CONTENTS,
        "data": data,
        "headline": headline,
        "size": {
            "rows": data.rows.height,
            "scored": scored.height,
            "many": bool(many_votes(data.votes).any()),
            "eegs": data.rows["eeg_id"].n_unique(),
            "patients": data.rows["patient_id"].n_unique(),
            "scored_patients": scored["patient_id"].n_unique(),
        },
        "runs": runs_of(data),
        "training": [training_of(name, run) for name, run in data.runs.items()],
        "evaluation": data.evaluation,
        "by_class": parts_and_axis(numbers.by_class(data)),
        "by_votes": parts_and_axis(numbers.by_votes(data)),
        "by_fold": parts_and_axis(numbers.by_fold(data)),
        "patients": patients(data, entry),
        "confusion": headline["confusion"],
        "reliability": {p: (part, reliability_chart(p, part["curve"])) for p, part in curves.items()},
        "blend_axis": axis_of(map(candidate_score, diagnostics["candidates"])) if diagnostics else None,
        "difference_axis": axis_of((score for _, score in headline["differences"]), zero=True),
        "recordings": recordings(data, entry, sources.competition, doctor),
        "doctor": quality(doctor),
        "ledger": ledger,
        "shown_kinds": {each.kind for each in data.entries} | {"chosen"},
        "commit": kit_commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def render(values: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= FILTERS
    fixed = {
        "PATTERNS": PATTERNS,
        "LABELS": numbers.LABELS,
        "LONG": numbers.LONG,
        "KINDS": KINDS,
        "TOO_GOOD": TOO_GOOD,
        "MANY": MANY_VOTES,
        "RESAMPLES": RESAMPLES,
        "FEWEST": numbers.FEWEST_PATIENTS,
    }
    return environment.get_template("report.html").render(**fixed, **values)


def write_report(sources: Sources, out: Path) -> None:
    """The page, by rename. Raises RunError, BlendError, BlendInputError."""
    html = render(values_of(sources))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_via(out, lambda path: path.write_text(html, encoding="utf-8"))
