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
from train import report_numbers as numbers
from train.evaluate.scores import RESAMPLES, many_votes
from train.kit_commit import kit_commit
from train.labels import vote_totals
from train.report_charts import Axis, patients_against_prior, ranked_patients, reliability_chart
from train.report_doctor import quality, read_doctor, remarks_on
from train.report_format import FILTERS, candidate_score
from train.report_made import fold_sizes, made, read_ledger, training_of
from train.report_numbers import Score
from train.report_read import KINDS, TOO_GOOD, Entry, Material, read_material

TEMPLATES = Path(__file__).parent / "templates"
WORST_AND_BEST = 20


@dataclass(frozen=True)
class Sources:
    """What a report is made of; what is None has a line on the page that says how to get it."""

    runs_and_blend: list[Path]
    competition: Path | None = None
    truth: Path | None = None
    doctor: Path | None = None
    ledger: Path | None = None


# ---- sections


def axis_of(scores: Iterable[Score], zero: bool = False) -> Axis:
    """A scale that holds all of them with their intervals."""
    return Axis.around([value for score in scores for value in (score.value, score.low, score.high)], zero=zero)


def summary(material: Material) -> dict[str, Any]:
    """The headline: what score to expect, beside what needs no model."""
    entry, entries = material.headline(), material.entries
    scores = numbers.scores_on(entries, material.patient, material.scored)
    single = numbers.scores_on(entries, material.patient, numbers.hidden_test_like(material))
    prior, floor = (material.of_kind(kind) for kind in ("prior", "floor"))
    place, confusion = entries.index(entry), numbers.confusion(material, entry)
    own, of_prior = scores[place].value, scores[entries.index(prior)].value
    others = [each for each in entries if each is not entry and each.kind != "uniform"]
    return {
        "entry": entry,
        "score": scores[place],
        "single": single[place],
        "single_rows": int(numbers.hidden_test_like(material).sum()),
        "lines": list(zip(entries, scores, single, strict=True)),
        "less": 1 - own / of_prior,
        "closed": (of_prior - own) / (of_prior - scores[entries.index(floor)].value) if floor else None,
        "prior": scores[entries.index(prior)],
        "floor": scores[entries.index(floor)] if floor else None,
        "axis": axis_of(scores, zero=True),
        "confusion": confusion,
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "differences": list(zip(others, numbers.differences(material, entry, others), strict=True)),
        "picked": material.blend is None and len(material.models()) > 1,
    }


def parts_and_axis(parts: list[numbers.Part]) -> dict[str, Any]:
    """Parts of the rows, and a scale on which all that is drawn of them lies."""
    return {"parts": parts, "axis": axis_of((score for part in parts for score in part.scores), zero=True)}


def patients(material: Material, entry: Entry) -> dict[str, Any]:
    lines = numbers.by_patient(material, entry)
    return {
        "lines": lines[: numbers.SHOWN_PATIENTS],
        "count": len(lines),
        "worse_than_prior": sum(line["kl"] > line["prior"] for line in lines),
        "worst_tenth": numbers.share_of_worst(lines),
        "median": float(np.median([line["kl"] for line in lines])),
        "charts": (ranked_patients(lines), patients_against_prior(lines)),
    }


def recordings(
    material: Material, entry: Entry, competition: Path | None, doctor: dict[str, Any] | None
) -> dict[str, Any]:
    """Cards of the worst and the best, with pictures where the competition is at hand."""
    groups = numbers.worst_and_best(material, entry, WORST_AND_BEST)
    pictures: dict[int, dict[str, Any]] = {}

    def said(row: int) -> list[str]:
        return remarks_on(doctor, *material.rows.select("eeg_id", "spectrogram_id").row(row))

    if competition:
        from train.report_recordings import draw_recordings  # needs torch, which all else does without

        pictures = draw_recordings(material, competition, np.concatenate(groups).tolist())
    worst, best = (
        [
            card(material, entry, int(row)) | pictures.get(int(row), {}) | {"rank": rank, "quality": said(int(row))}
            for rank, row in enumerate(group, start=1)
        ]
        for group in groups
    )
    return {"worst": worst, "best": best, "drawn": competition is not None}


def card(material: Material, entry: Entry, number: int) -> dict[str, Any]:
    """Whose a row is, its votes, and what every model says of it."""
    row, votes = material.rows.row(number, named=True), material.votes[number]
    shown = [each for each in material.entries if each.kind != "uniform"]
    return {
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
    ("submissions", "Submissions"), ("made", "Made"),
)  # fmt: skip


def runs_of(material: Material) -> list[dict[str, Any]]:
    """How each run was made, and its two lines of scores: of the last epoch and of the best."""
    lines = material.evaluation.scores.to_dicts()
    return [
        made(name, run, material.experiments[name]) | {"scores": [line for line in lines if line["run"] == str(run)]}
        for name, run in material.runs.items()
    ]


def values_of(sources: Sources) -> dict[str, Any]:
    """Everything that the template shows. Raises RunError, BlendError, BlendInputError."""
    material = read_material(sources.runs_and_blend, sources.truth)
    doctor = read_doctor(sources.doctor) if sources.doctor else None
    ledger = read_ledger(sources.ledger) if sources.ledger else None
    entry, scored = material.headline(), material.rows.filter(material.scored)
    curves, judged, headline = numbers.reliability(material, entry), material.judged, summary(material)
    return {
        "contents": CONTENTS,
        "material": material,
        "headline": headline,
        "size": {
            "rows": material.rows.height,
            "scored": scored.height,
            "many": bool(many_votes(material.votes).any()),
            "eegs": material.rows["eeg_id"].n_unique(),
            "patients": material.rows["patient_id"].n_unique(),
            "scored_patients": scored["patient_id"].n_unique(),
        },
        "runs": runs_of(material),
        "training": [training_of(name, run) for name, run in material.runs.items()],
        "evaluation": material.evaluation,
        "by_class": parts_and_axis(numbers.by_class(material)),
        "by_votes": parts_and_axis(numbers.by_votes(material)),
        "by_fold": parts_and_axis(numbers.by_fold(material)),
        "patients": patients(material, entry),
        "confusion": headline["confusion"],
        "reliability": {p: (part, reliability_chart(p, part["curve"])) for p, part in curves.items()},
        "blend_axis": axis_of(map(candidate_score, judged["candidates"])) if judged else None,
        "difference_axis": axis_of((score for _, score in headline["differences"]), zero=True),
        "recordings": recordings(material, entry, sources.competition, doctor),
        "doctor": quality(doctor),
        "ledger": ledger,
        "fold_sizes": fold_sizes(material),
        "shown_kinds": {each.kind for each in material.entries} | {"chosen"},
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
