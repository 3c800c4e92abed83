"""Every kind of net that a config may ask for. A new one is a file beside this one, its import, and its name here."""

from typing import Annotated, Any, get_args

from pydantic import Field

from common.models.base import NetConfig
from common.models.cnn import SpectrogramCnnConfig
from common.models.squeezeformer import WaveSqueezeformerConfig
from common.models.transformer import SpectrogramTransformerConfig
from common.models.wavenet import WaveNetConfig

ModelConfig = Annotated[
    SpectrogramCnnConfig | SpectrogramTransformerConfig | WaveNetConfig | WaveSqueezeformerConfig,
    Field(discriminator="kind"),
]
NETS: tuple[type[NetConfig], ...] = get_args(get_args(ModelConfig)[0])


def check_fits(input_config: Any, model: Any) -> None:
    """Raises ValueError when a net cannot read an input."""
    if model.reads != input_config.form:
        wanted = " or ".join(net.model_fields["kind"].default for net in NETS if net.reads == input_config.form)
        raise ValueError(f"input {input_config.kind!r} goes with model {wanted}, not {model.kind!r}")
    model.check_input(input_config)
