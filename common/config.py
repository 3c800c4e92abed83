"""An experiment: what the model sees, which model it is, how it is trained.

Written as TOML in train/configs, where a file says what differs from the defaults here and why, and
carried as JSON beside the weights, from where inference reads it back. Frozen; unknown keys are refused.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

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
)


class ConfigError(KitError):
    """A config that cannot be used. The message names the file, the key and what is allowed."""


class SpectrogramCnnConfig(Strict):
    kind: Literal["spectrogram-cnn"] = "spectrogram-cnn"
    backbone: str = "efficientnet_b0"  # any timm name
    pretrained: bool = True
    pooling: Literal["average", "gem"] = "average"
    drop_path: float = Field(default=0.2, ge=0, lt=1)  # the seed's drop head: .2 in the backbone,
    dropout: float = Field(default=0.3, ge=0, lt=1)  # .3 before the classifier


class WaveNetConfig(Strict):
    kind: Literal["wave-net"] = "wave-net"
    width: int = Field(default=64, ge=8, multiple_of=2)  # channels of the trunk; half of them in each direction of time
    kernel: int = Field(default=3, ge=3)  # samples at 50 Hz, odd
    dilations: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32)  # 2.5 s
    drop_channel: float = Field(default=0.1, ge=0, lt=1)  # share of differences silenced while training
    dropout: float = Field(default=0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def kernel_has_a_centre(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel} must be odd")
        return self


ModelConfig = Annotated[SpectrogramCnnConfig | WaveNetConfig, Field(discriminator="kind")]


class Stage(Strict):
    """One stretch of training; a later stage starts from the weights of the one before."""

    epochs: int = Field(default=6, ge=1)
    min_votes: int = Field(default=1, ge=1)  # label rows with fewer votes are left out
    batch_size: int = Field(default=32, ge=1)
    mirror: float = Field(default=0.0, ge=0, le=1)  # share of windows whose hemispheres are exchanged
    shift: float = Field(default=0.0, ge=0, le=20)  # seconds; windows start up to so much earlier or later
    learning_rate: float = Field(default=1e-3, gt=0)  # the peak of the one-cycle schedule
    weight_decay: float = Field(default=1e-2, ge=0)
    warm_up: float = Field(default=0.1, ge=0, lt=1)  # share of the steps on the way up to the peak
    div_factor: float = Field(default=25.0, ge=1)  # starts at learning_rate / div_factor
    final_div_factor: float = Field(default=100.0, ge=1)  # ends at the starting rate / final_div_factor


class Training(Strict):
    folds: int = Field(default=5, ge=2)
    seed: int = Field(default=42, ge=0, lt=2**31)
    # "last" is honest; "best" is chosen on the fold that scores it, and every table labels it so.
    checkpoint: Literal["last", "best"] = "last"
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (Stage(),)


class Experiment(Strict):
    """A whole experiment. `name` is the file's, and the run folder's, the dataset slug's tail, the blend key."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=46)  # hms-NAME must fit 50 characters
    input: InputConfig = KaggleImage()
    model: ModelConfig = SpectrogramCnnConfig()
    training: Training = Training()

    @model_validator(mode="after")
    def model_fits_input(self) -> Self:
        sequence = isinstance(self.input, BipolarSequence)
        if sequence != isinstance(self.model, WaveNetConfig):
            wanted = "wave-net" if sequence else "spectrogram-cnn"
            raise ValueError(f"input {self.input.kind!r} goes with model {wanted!r}, not {self.model.kind!r}")
        if isinstance(self.input, BipolarSequence):
            if self.input.sfreq % 50:
                raise ValueError(f"model 'wave-net' works at 50 Hz: input.sfreq = {self.input.sfreq} is no multiple")
            if self.input.montage == "chains":
                raise ValueError("model 'wave-net' looks at the midline too: input.montage = 'chains' lacks it")
        return self


UNIONS: dict[str, Any] = {"input": InputConfig, "images": SingleImage, "transform": AnyTransform, "model": ModelConfig}
KINDS = {
    key: {member.model_fields["kind"].default: member for member in get_args(get_args(union)[0])}
    for key, union in UNIONS.items()
}


def explain(error: ValidationError) -> str:
    """pydantic's findings, one line each; for an unknown key with the nearest known one."""
    lines: list[str] = []
    for finding in error.errors():
        parts = [str(part) for part in finding["loc"]]
        # pydantic names the members of a union that it tried; people know only the key.
        where = ".".join(part for part in parts if part != "Constants" and not part.startswith("literal[")) or "(file)"
        line = f"{where}: {finding['msg']}"
        if finding["type"] == "too_short" and lines:
            continue  # only says that the members named above were refused
        if finding["type"] == "model_type" and parts[-1] == "Constants":
            line = f"{where}: or a table of constants, as in {{mean = 0.0, deviation = 2.0}}"
        elif finding["type"] == "union_tag_not_found":
            union = next(part for part in reversed(finding["loc"]) if isinstance(part, str))
            line = f"{where}.kind: missing; one of {', '.join(KINDS[union])}"
        elif finding["type"] == "extra_forbidden":
            key = str(finding["loc"][-1])
            known = keys_beside(finding["loc"])
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
            line = f"{where}: unknown key; {hint}"
        lines.append(line)
    return "\n  ".join(lines)


def keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed where pydantic found an unknown one."""
    tables: dict[str, Any] = {"training": Training, "stages": Stage, "crops": Crop, "standardise": Constants}
    tables |= {kind: table for kinds in KINDS.values() for kind, table in kinds.items()}
    for part in reversed(location[:-1]):
        if part in tables:
            return list(tables[str(part)].model_fields)
    return list(Experiment.model_fields)


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
