"""An experiment: what the model sees, which model it is, how it is trained.

Written as TOML in train/configs, where a file says what differs from the defaults here and why, and
carried as JSON beside the weights, from where inference reads it back. Frozen; unknown keys are refused.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import Field, ValidationError, model_validator

from common.architectures import IMAGE_MODELS, ModelConfig, SpectrogramCnnConfig, WaveNetConfig
from common.errors import KitError
from common.inputs import (
    AnyTransform,
    BipolarSequence,
    Constants,
    Crop,
    InputConfig,
    KaggleImage,
    SingleImage,
    Strict,
    needs_eeg,
)
from common.training import (
    Augment,
    CutMix,
    DropElectrodes,
    FewVotes,
    MixUp,
    NarrowBand,
    Published,
    RandomGaps,
    RowSelection,
    Stage,
    Training,
    XYMask,
)
from common.tta import View


class ConfigError(KitError):
    """A config that cannot be used. The message names the file, the key and what is allowed."""


class Experiment(Strict):
    """A whole experiment. `name` is the file's, and the run folder's, the dataset slug's tail, the blend key."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=46)  # hms-NAME must fit 50 characters
    input: InputConfig = KaggleImage()
    model: ModelConfig = SpectrogramCnnConfig()
    training: Training = Training()

    published: Published | None = None

    @model_validator(mode="after")
    def model_fits_input(self) -> Self:
        sequence = isinstance(self.input, BipolarSequence)
        if sequence == isinstance(self.model, IMAGE_MODELS):
            wanted = "wave-net or wave-squeezeformer" if sequence else "spectrogram-cnn or spectrogram-transformer"
            raise ValueError(f"input {self.input.kind!r} goes with model {wanted}, not {self.model.kind!r}")
        if isinstance(self.input, BipolarSequence) and isinstance(self.model, WaveNetConfig):
            if self.input.sfreq % 50:
                raise ValueError(f"model 'wave-net' works at 50 Hz: input.sfreq = {self.input.sfreq} is no multiple")
            if self.input.montage == "chains":
                raise ValueError("model 'wave-net' looks at the midline too: input.montage = 'chains' lacks it")
        return self

    @model_validator(mode="after")
    def augmentation_fits_input(self) -> Self:
        of_image, of_eeg = ("cutmix", "mosaic", "mask"), ("drop_electrodes", "narrow_band", "gaps")
        for number, stage in enumerate(self.training.stages):
            wanted = {name for name in (*of_image, *of_eeg) if getattr(stage.augment, name)}
            if isinstance(self.input, BipolarSequence) and (lost := wanted & set(of_image)):
                raise ValueError(f"stages.{number}: augment.{min(lost)} changes images, the input is a sequence")
            if not needs_eeg(self.input) and (lost := wanted & set(of_eeg)):
                raise ValueError(f"stages.{number}: augment.{min(lost)} changes the EEG, which the input does not see")
        return self


UNIONS: dict[str, Any] = {"input": InputConfig, "images": SingleImage, "transform": AnyTransform, "model": ModelConfig}
KINDS = {
    key: {member.model_fields["kind"].default: member for member in get_args(get_args(union)[0])}
    for key, union in UNIONS.items()
}


def explain(error: ValidationError, root: type[Strict] = Experiment) -> str:
    """pydantic's findings about a `root`, one line each; for an unknown key with the nearest known one."""
    lines: list[str] = []
    for finding in error.errors():
        parts = [str(part) for part in finding["loc"]]
        # pydantic names the members of a union that it tried; people know only the key.
        where = ".".join(part for part in parts if part != "Constants" and not part.startswith("literal[")) or "(file)"
        line = f"{where}: {finding['msg']}"
        if finding["type"] == "too_short" and lines:
            continue  # only says that the members named above were refused
        if finding["type"] == "model_type" and parts and parts[-1] == "Constants":
            line = f"{where}: or a table of constants, as in {{mean = 0.0, deviation = 2.0}}"
        elif finding["type"] == "union_tag_not_found":
            union = next(part for part in reversed(finding["loc"]) if isinstance(part, str))
            line = f"{where}.kind: missing; one of {', '.join(KINDS[union])}"
        elif finding["type"] == "string_pattern_mismatch" and where == "name":
            line = f"{finding['input']!r}: a config's file name is its name: small letters, digits and hyphens"
        elif finding["type"] == "extra_forbidden":
            key = str(finding["loc"][-1])
            known = keys_beside(finding["loc"], root)
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
            line = f"{where}: unknown key; {hint}"
        lines.append(line)
    return "\n  ".join(lines)


def keys_beside(location: tuple[int | str, ...], root: type[Strict]) -> list[str]:
    """The keys allowed where pydantic found an unknown one."""
    tables: dict[str, Any] = {"training": Training, "stages": Stage, "crops": Crop, "standardise": Constants}
    tables |= {"rows": RowSelection, "augment": Augment, "drop_electrodes": DropElectrodes, "narrow_band": NarrowBand}
    tables |= {"gaps": RandomGaps, "mixup": MixUp, "cutmix": CutMix, "mask": XYMask}
    tables |= {"few_votes": FewVotes, "published": Published, "views": View}
    tables |= {kind: table for kinds in KINDS.values() for kind, table in kinds.items()}
    for part in reversed(location[:-1]):
        if part in tables:
            return list(tables[str(part)].model_fields)
    return list(root.model_fields)


def parse_experiment(values: dict[str, Any], source: str) -> Experiment:
    """Checked values to an Experiment. Raises ConfigError; `source` names them in its message."""
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}:\n  {explain(error)}") from error


def load_experiment(path: Path) -> Experiment:
    """An experiment from its TOML file, named after it. Raises ConfigError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
    if "name" in values:
        raise ConfigError(f"{path.name}: the name is the file's; remove the key 'name'")
    return parse_experiment({"name": path.stem, **values}, path.name)
