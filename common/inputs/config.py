"""Every kind of input that a config may ask for. A new image is a file beside this one, its import, and its name in
`SingleImage`; a new sequence is named in `InputConfig`."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from common.inputs.base import Constants, ImageAxes, Input, Join, Size, Windows
from common.inputs.bipolar_sequence import BipolarSequence
from common.inputs.eeg_mel_image import EegMelImage
from common.inputs.eeg_spectra import EegSpectra
from common.inputs.kaggle_image import KaggleImage
from common.inputs.panels import join_images, resized
from common.inputs.raw_image import RawImage

SingleImage = KaggleImage | EegMelImage | RawImage | EegSpectra


class CombinedImage(Input):
    """Images of any sources joined to one, beside or below each other or as channels."""

    kind: Literal["combined-image"] = "combined-image"
    images: Annotated[tuple[Annotated[SingleImage, Field(discriminator="kind")], ...], Field(min_length=2)]
    join: Join = "beside"
    resize: Size | None = None

    @property
    def singles(self) -> tuple[Input, ...]:
        return self.images

    def with_constants(self, measured: Iterator[Constants]) -> Input:
        return self.model_copy(update={"images": tuple(image.with_constants(measured) for image in self.images)})

    def make(self, windows: Windows) -> Tensor:
        return resized(join_images([image.make(windows) for image in self.images], self.join), self.resize)

    def describe(self) -> str:
        return " & ".join(image.describe() for image in self.images)

    def axes(self) -> ImageAxes:
        return ImageAxes(tuple(image.axes() for image in self.images), self.join, self.resize)


InputConfig = Annotated[SingleImage | CombinedImage | BipolarSequence, Field(discriminator="kind")]
