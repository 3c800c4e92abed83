"""The recipe that travels with weights: a name, what the model sees, which model it is.

Training adds how it is trained (train/experiment.py). Carried as JSON beside the weights, from where inference
reads it back. Frozen; unknown keys are refused.
"""

from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from common.architectures import IMAGE_MODELS, ModelConfig, SpectrogramCnnConfig, WaveNetConfig
from common.errors import ConfigError, explain
from common.inputs import BipolarSequence, InputConfig, KaggleImage, Strict


class Recipe(Strict):
    """`name` is the config file's, and the run folder's, the dataset slug's tail, the blend key."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=46)  # hms-NAME must fit 50 characters
    input: InputConfig = KaggleImage()
    model: ModelConfig = SpectrogramCnnConfig()

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


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def parse_recipe(values: dict[str, Any], source: str, kind: type[AnyRecipe]) -> AnyRecipe:
    """Checked values to a Recipe, or what extends it. Raises ConfigError; `source` names them in its message."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}:\n  {explain(error, kind)}") from error


def as_json(recipe: Recipe) -> str:
    """The one way a recipe is written, so that equal ones have equal bytes."""
    return recipe.model_dump_json(indent=1) + "\n"
