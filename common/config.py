"""An experiment: what the model sees, which model it is, how it is trained.

Written as TOML in train/configs, where a file says what differs from the defaults here and why, and
carried as JSON beside the weights, from where inference reads it back. Frozen; unknown keys are refused.
"""

import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from common.inputs.base import needs_eeg
from common.inputs.bipolar_sequence import BipolarSequence
from common.inputs.config import InputConfig
from common.inputs.kaggle_image import KaggleImage
from common.models.cnn import SpectrogramCnnConfig
from common.models.config import IMAGE_MODELS, ModelConfig
from common.models.wavenet import WaveNetConfig
from common.strict import ConfigError, Strict, explain
from common.training import Published, Training


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


def parse_experiment(values: dict[str, Any], source: str) -> Experiment:
    """Checked values to an Experiment. Raises ConfigError; `source` names them in its message."""
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}:\n  {explain(error, Experiment)}") from error


def load_experiment(path: Path) -> Experiment:
    """An experiment from its TOML file, named after it. Raises ConfigError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
    if "name" in values:
        raise ConfigError(f"{path.name}: the name is the file's; remove the key 'name'")
    return parse_experiment({"name": path.stem, **values}, path.name)
