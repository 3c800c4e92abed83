"""Experiments in few words: the cells of the table of experiments."""

from typing import Any

from common.architectures import (
    ModelConfig,
    SpectrogramCnnConfig,
    SpectrogramTransformerConfig,
    WaveNetConfig,
    WaveSqueezeformerConfig,
)
from common.inputs import CombinedImage, Constants, EegMelImage, EegSpectra, KaggleImage, Part, RawImage, Strict
from common.training import Augment, Published, Stage

SCALES = {"panel": "by panel", "image": "by image", "spec": "spec constants", "stat": "stat constants"}
SCALES["training"] = "training constants"  # measured on each fold's training rows
ALL_ROWS = Published.model_fields["rows"].default


def once(words: list[str]) -> str:
    """In their order, each once; a dash for none."""
    return ", ".join(dict.fromkeys(words)) or "-"


def scale_words(image: KaggleImage, part: Part) -> str:
    """What a part of the image is standardised by."""
    scale = image.standardise if part == "image" else image.standardise_features or image.standardise
    return "given constants" if isinstance(scale, Constants) else SCALES[scale]


def input_words(config: Any) -> str:
    match config:
        case CombinedImage():
            return " & ".join(map(input_words, config.images))
        case KaggleImage():
            size = f" to {config.resize[0]} x {config.resize[1]}" if config.resize else ""
            return (
                f"Kaggle {' + '.join(config.parts)}{size}, {once([scale_words(config, part) for part in config.parts])}"
            )
        case EegMelImage():
            return f"EEG mel {' + '.join(config.parts)}"
        case RawImage():
            return f"raw EEG, {'folded to' if config.rows == 'folded' else 'rows of'} {config.columns}"
        case EegSpectra():
            kind = config.crops[0].transform.kind
            return f"EEG {kind}, {' + '.join(str(crop.seconds) for crop in config.crops)} s"
        case _:
            return f"EEG waves at {config.sfreq} Hz"


def model_words(config: ModelConfig) -> str:
    match config:
        case SpectrogramCnnConfig():
            head = "" if config.drop_path or config.dropout else ", plain head"
            return config.backbone + head + (", GeM" if config.pooling == "gem" else "")
        case SpectrogramTransformerConfig():
            return config.backbone + (f", stride {config.stride}" if config.stride else "")
        case WaveNetConfig():
            return f"wave-net, {config.width} wide"
        case WaveSqueezeformerConfig():
            return f"squeezeformer, {config.layers} x {config.width}"


def loss_words(stages: tuple[Stage, ...]) -> str:
    return once([stage.loss + (" (few votes fade)" if stage.few_votes else "") for stage in stages])


def augment_words(stages: tuple[Stage, ...]) -> str:
    def used(augment: Augment) -> list[str]:
        return [name for name, value in augment if value]

    return once([name.replace("_", " ") for stage in stages for name in used(stage.augment)])


def rows_words(stage: Stage) -> str:
    rows = stage.rows
    bounds = [f"N >= {rows.min_votes}"] if rows.min_votes > 1 else []
    bounds += [f"N <= {rows.max_votes}"] if rows.max_votes else []
    return f" ({', '.join(bounds)})" if bounds else ""


def stage_words(stages: tuple[Stage, ...]) -> str:
    """Epochs, behind them which rows when not all, by their votes N; + where the optimiser goes on: 2+4 (N <= 4), 6."""
    text = ""
    for k, stage in enumerate(stages):
        goes_on = k + 1 < len(stages) and stages[k + 1].carry_on and stages[k + 1].rows == stage.rows
        text += f"{stage.epochs}{'' if goes_on else rows_words(stage)}"
        text += "" if k + 1 == len(stages) else "+" if stages[k + 1].carry_on else ", "
    return text


def published_words(published: Published | None) -> list[str]:
    """CV, starred when it was not read on all label rows, leaderboard, and the faults of the published run."""
    if published is None:
        return ["-", "-", "-"]
    star = "" if published.rows == ALL_ROWS else "*"
    cv = "-" if published.cv is None else f"{published.cv:.4f}{star}"
    leaderboard = "-" if published.leaderboard is None else f"{published.leaderboard:.3f}".removesuffix("0")
    return [cv, leaderboard, once(list(published.bugs))]


def recipe_words(input_config: Strict, model: ModelConfig, stages: tuple[Stage, ...]) -> list[str]:
    words = [input_words(input_config), model_words(model), loss_words(stages)]
    return [*words, augment_words(stages), stage_words(stages)]
