"""The recipe that travels with weights: a name, what the model sees, which model it is.

Training adds how it is trained (train/experiment.py). Carried as JSON beside the weights, from where inference
reads it back. Frozen; unknown keys are refused.
"""

from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from common.inputs.config import InputConfig
from common.inputs.kaggle_image import KaggleImage
from common.models.cnn import SpectrogramCnnConfig
from common.models.config import ModelConfig, check_fits
from common.strict import ConfigError, Strict, explain


class Recipe(Strict):
    """`name` is the config file's, and the run folder's, the dataset slug's tail, the blend key."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=46)  # hms-NAME must fit 50 characters
    input: InputConfig = KaggleImage()
    model: ModelConfig = SpectrogramCnnConfig()

    @model_validator(mode="after")
    def model_fits_input(self) -> Self:
        check_fits(self.input, self.model)
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
