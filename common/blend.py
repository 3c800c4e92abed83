"""The blend file, and how predictions are combined: folds first, then models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from common.errors import KitError
from common.schema import PATTERNS
from common.strict import Strict, explain
from common.tta import PLAIN, View

Share = Annotated[float, Field(ge=0, le=1)]
Logit = Annotated[float, Field(ge=-1e6, le=1e6)]  # beyond, products of them are no numbers any more
LEAST_WEIGHT = 1e-12  # of a model that counts: what answers alone is divided by its weight
LEAST_LOGGED = 1e-6  # in a logarithm a smaller probability counts as this: no model can rule a pattern out alone


class BlendError(KitError):
    """A blend that does not fit the models at hand. The message names them."""


Bounds = tuple[float, float]  # of a 95 % interval, from resampling patients


class MethodScore(Strict):
    """A method to combine models, with its nested out-of-fold score on rows with many votes."""

    name: str
    nested_kl: float
    interval: Bounds | None = None
    difference: float = 0.0  # to the simplest, the first; negative: better
    difference_interval: Bounds | None = None
    behind: float = 0.0  # the best one's score, by so much
    behind_interval: Bounds | None = None
    strength: float | None = None  # of the regularisation, chosen by cross-validation
    optimality_gap: float | None = None  # what other weights could still gain at most, in nats
    chosen: bool


class Source(Strict):
    """A table of out-of-fold predictions."""

    name: str
    sha256: str


class Provenance(Strict):
    """What a blend was fitted on. Names and fingerprints, never paths."""

    sources: tuple[Source, ...]
    labels: Source | None = None  # None: votes and folds are those of the first source
    group: str  # column whose values were resampled, and are in one fold each
    groups: int  # with many votes
    folds_sha256: str  # of ids and folds of all rows, whatever their order
    commit: str | None = None  # of the kit; None where it is not a git checkout


class LogLinear(Strict):
    """The models' weighted mean logarithms, made sharper or flatter, shifted and corrected, as logits.

    correction, 12 rows of 6: what is added to the logits for each of the models' six mean probabilities, and for
    each of their six standard deviations, which are large where they disagree. Empty: nothing.
    """

    temperature: float = Field(default=1.0, ge=1e-6, le=1e7)  # beyond, nothing but rounding is left
    bias: tuple[Logit, ...] = (0.0,) * len(PATTERNS)
    correction: tuple[tuple[Logit, ...], ...] = ()

    @model_validator(mode="after")
    def fits_the_patterns(self) -> Self:
        if len(self.bias) != len(PATTERNS):
            raise ValueError(f"bias must be {len(PATTERNS)} numbers, got {len(self.bias)}")
        shape = [len(row) for row in self.correction]
        if shape and shape != [len(PATTERNS)] * 2 * len(PATTERNS):
            raise ValueError(f"correction must be {2 * len(PATTERNS)} rows of {len(PATTERNS)} numbers, got {shape}")
        return self


class Published(Strict):
    """What others reported of the same model or blend, for the table of experiments. Nothing follows from it."""

    source: str
    cv: float | None = None  # KL, out of fold, best checkpoint: optimistic
    rows: str = "all label rows"  # which `cv` was read on
    leaderboard: float | None = None  # public, if not said otherwise in `note`
    note: str = ""


class Blend(Strict):
    """Which models count how much, what to answer when there is none, and what the kernel may spend.

    An empty `models` means that nothing was fitted yet: every weights folder given counts equally.
    """

    models: dict[str, Share]  # experiment name -> convex weight
    prior: tuple[Share, ...]  # mean vote shares of the rows with at least 10 votes
    log_linear: LogLinear | None = None  # None: probabilities are averaged, not logarithms
    views: tuple[View, ...] = ()  # of TTA, beside the plain one; when time is short the last is left out first
    drop: tuple[str, ...] = ()  # models in the order in which they are left out when time is short, weakest first
    # What a run may take. The competition ends it after 9, and a quarter is left for what hangs to be ended.
    hours: float = Field(default=8.5, gt=0, le=8.7)
    read_seconds: float = Field(default=60.0, gt=0, le=3600)  # a recording that takes longer counts as unreadable
    candidates: tuple[MethodScore, ...] = ()  # every method that was fitted
    rows: int = 0  # label rows with at least 10 votes that it was fitted on
    provenance: Provenance | None = None
    published: Published | None = None

    @model_validator(mode="after")
    def sums_to_one(self) -> Self:
        if len(self.prior) != len(PATTERNS) or abs(sum(self.prior) - 1) > 1e-6:
            raise ValueError(f"prior must be {len(PATTERNS)} shares that sum to 1, got {self.prior}")
        if self.models and abs(sum(self.models.values()) - 1) > 1e-6:
            raise ValueError(f"weights must sum to 1, they sum to {sum(self.models.values()):.6f}")
        if tiny := [name for name, weight in self.models.items() if 0 < weight < LEAST_WEIGHT]:
            raise ValueError(f"weights must be 0 or at least {LEAST_WEIGHT:g}: give {', '.join(tiny)} 0")
        return self

    @model_validator(mode="after")
    def names_fit(self) -> Self:
        if PLAIN in self.views or len(set(self.views)) < len(self.views):
            shown = ", ".join(map(str, self.views))
            raise ValueError(f"TTA views are {shown}: each must differ from the others and from the plain one")
        strangers = [name for name in self.drop if self.models and name not in self.models]
        if strangers or len(set(self.drop)) < len(self.drop):
            raise ValueError(
                f"drop names {', '.join(strangers) or 'a model twice'}: give models of the blend, each once"
            )
        return self

    @property
    def chosen(self) -> str | None:
        """The name of the method that was fitted; None where the file has none."""
        return next((method.name for method in self.candidates if method.chosen), None)

    def drop_order(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """The given models, the first to go first: as `drop` says, then by weight, then the last one given."""
        rest = [name for name in reversed(given) if name not in self.drop]
        rest.sort(key=lambda name: self.models.get(name, 0.0))
        return tuple(name for name in self.drop if name in given) + tuple(rest)


def refuse_repeated_keys(pairs: list[tuple[str, object]]) -> None:
    """Of a key that a JSON object has twice, readers keep the last value and lose the other. Raises ValueError."""
    keys = [key for key, _ in pairs]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"{', '.join(twice)} is given twice; keep one of them")


def parse_blend(text: str, source: str) -> Blend:
    """Raises BlendError; `source` names the text in its message."""
    try:
        blend = Blend.model_validate_json(text)
        json.loads(text, object_pairs_hook=refuse_repeated_keys)
    except ValidationError as error:
        raise BlendError(f"{source}:\n  {explain(error, Blend)}") from error
    except ValueError as error:
        raise BlendError(f"{source}: {error}") from error
    return blend


def load_blend(path: Path) -> Blend:
    """The blend in a JSON file. Raises BlendError."""
    try:
        return parse_blend(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise BlendError(f"{path}: {error}; make one with `python -m train blend`") from error


def model_weights(blend: Blend, names: list[str], forgiving: bool = False) -> tuple[dict[str, float], list[str]]:
    """The weight of each model at hand, and what does not match, one line each.

    Strict: a model that is missing or that the blend does not know raises BlendError. Forgiving:
    the known ones share the weight of the missing.
    """
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise BlendError(f"two weights folders hold the same model: {', '.join(twice)}")
    if not blend.models:
        return {name: 1 / len(names) for name in names}, []
    missing = [f"the blend wants {name}, its weights were not given" for name in blend.models if name not in names]
    extra = [f"weights of {name} were given, the blend does not name it" for name in names if name not in blend.models]
    problems = missing + extra
    if problems and not forgiving:
        raise BlendError("; ".join(problems) + "; give other weights, or another blend with --blend")
    known = {name: weight for name, weight in blend.models.items() if name in names and weight > 0}
    total = sum(known.values())
    return {name: weight / total for name, weight in known.items()}, problems


def combine(
    predictions: dict[str, np.ndarray],
    weights: dict[str, float],
    prior: tuple[float, ...],
    n_rows: int,
    log_linear: LogLinear | None = None,
) -> np.ndarray:
    """Weighted mean of the models that answered, row by row, of probabilities or of logarithms; the prior where none
    did. Those that answered share the weight of those that did not.

    predictions: name -> (n_rows, 6), a row of NaN where the model has no answer. Returns (n_rows, 6)
    float64 whose rows sum to 1, each the same whatever the other rows are.
    """
    answered = {name: np.isfinite(predictions[name]).all(axis=1, keepdims=True) for name in weights}
    weight_sum = np.zeros((n_rows, 1))
    for name, weight in weights.items():
        weight_sum += np.where(answered[name], weight, 0.0)

    def total(of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        summed = np.zeros((n_rows, len(PATTERNS)))
        for name, weight in weights.items():
            summed += np.where(answered[name], weight * of(predictions[name]), 0.0)
        return summed

    mixed = total(np.asarray)
    if log_linear is not None:
        shares = np.where(weight_sum > 0, weight_sum, 1.0)
        logs = total(lambda p: np.log(np.maximum(p, LEAST_LOGGED))) / shares
        logits = logs / log_linear.temperature + np.array(log_linear.bias)
        if log_linear.correction:
            summaries = mean_and_spread(mixed / shares, total(np.square) / shares)
            for column, row in zip(summaries.T, log_linear.correction, strict=True):
                logits += column[:, None] * np.array(row)  # a matrix product would round by the number of rows
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        mixed = powers / powers.sum(axis=1, keepdims=True)
    mixed = np.where(weight_sum > 0, mixed, np.array(prior))
    return mixed / mixed.sum(axis=1, keepdims=True)


def mean_and_spread(mean: np.ndarray, mean_of_squares: np.ndarray) -> np.ndarray:
    """Means and standard deviations of the models' probabilities, (rows, 12)."""
    return np.concatenate([mean, np.sqrt(np.maximum(mean_of_squares - mean**2, 0.0))], axis=1)
