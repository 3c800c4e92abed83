"""The report: runs and their blend on one page that opens anywhere, without network, script or other files."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import write_text
from common.schema import MANY_VOTES, PATTERNS
from train.data.labels import vote_totals
from train.evaluate.scores import RESAMPLES, many_votes
from train.provenance import kit_commit
from train.report import numbers
from train.report.charts import Axis, patients_against_prior, reliability_chart
from train.report.data_quality import quality, read_doctor, remarks_on
from train.report.format import FILTERS
from train.report.ledger import read_ledger
from train.report.load import KINDS, TOO_GOOD, Entry, ReportData, load_report_data
from train.report.numbers import Score
from train.report.run_details import run_details, training_of

TEMPLATES = Path(__file__).parent / "templates"
WORST_AND_BEST = 20


# ---- sections


def axis_of(scores: Iterable[Score], zero: bool = False) -> Axis:
    """A scale that holds all of them with their intervals."""
    return Axis.around([value for score in scores for value in score], zero=zero)


def summary(data: ReportData) -> dict[str, Any]:
    """The headline: what score to expect, beside what needs no model."""
    entry, entries = data.headline(), data.entries
    scores = numbers.scores_on(data, data.scored)
    single = numbers.scores_on(data, numbers.hidden_test_like(data))
    place, confusion = entries.index(entry), numbers.confusion(data, entry)
    own, prior = scores[place].value, scores[entries.index(data.prior)].value
    floor = scores[0].value if data.bayes_floor else None
    others = [each for each in entries if each is not entry and each.kind != "uniform"]
    return {
        "entry": entry,
        "score": scores[place],
        "single": single[place],
        "single_rows": int(numbers.hidden_test_like(data).sum()),
        "lines": list(zip(entries, scores, single, strict=True)),
        "less": 1 - own / prior,
        "closed": None if floor is None else (prior - own) / (prior - floor),
        "prior": prior,
        "floor": floor,
        "axis": axis_of(scores, zero=True),
        "confusion": confusion,
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "differences": list(zip(others, numbers.differences(data, entry, others), strict=True)),
        "picked": data.blend is None and len(data.models()) > 1,
    }


def parts_and_axis(parts: list[numbers.Part]) -> dict[str, Any]:
    """Parts of the rows, and a scale on which all that is drawn of them lies."""
    drawn = [value for part in parts for value in (*part.main, *part.others, part.prior)]
    return {"parts": parts, "axis": Axis.around(drawn, zero=True)}


def patients(data: ReportData, entry: Entry) -> dict[str, Any]:
    """How the KL is spread over patients."""
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


def values_of(
    data: ReportData, competition: Path | None, doctor: dict[str, Any] | None, ledger: list[dict[str, str]] | None
) -> dict[str, Any]:
    """Everything that the template shows. For what is None the page says how to get it. Raises RunError."""
    entry, scored = data.headline(), data.rows.filter(data.scored)
    curves, headline = numbers.reliability(data, entry), summary(data)
    candidates = [
        (candidate, Score(candidate["nested_kl"], *(candidate["interval"] or ())))
        for candidate in (data.diagnostics or {"candidates": []})["candidates"]
    ]
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
        "by_class": parts_and_axis(numbers.parts_by_class(data)),
        "by_votes": parts_and_axis(numbers.parts_by_votes(data)),
        "by_fold": parts_and_axis(numbers.parts_by_fold(data)),
        "patients": patients(data, entry),
        "confusion": headline["confusion"],
        "reliability": {p: (part, reliability_chart(p, part["curve"])) for p, part in curves.items()},
        "candidates": candidates,
        "blend_axis": axis_of(score for _, score in candidates),
        "difference_axis": axis_of((score for _, score in headline["differences"]), zero=True),
        "recordings": recordings(data, entry, competition, doctor),
        "doctor": quality(doctor),
        "ledger": ledger,
        "shown_kinds": {each.kind for each in data.entries} | {"chosen"},
        "commit": kit_commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def render(values: dict[str, Any]) -> str:
    """The page as HTML."""
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


def write_report(
    sources: list[Path],
    out: Path,
    competition: Path | None,
    truth: Path | None,
    doctor: Path | None,
    ledger: Path | None,
) -> None:
    """The page, by rename. Raises RunError, BlendError, BlendInputError."""
    found = read_doctor(doctor) if doctor else None
    submissions = read_ledger(ledger)[::-1] if ledger else None
    html = render(values_of(load_report_data(sources, truth), competition, found, submissions))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, html)
