"""Which label rows a stage trains on, as a config; train.data.labels.select_rows finds them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from common.strict import Strict


class RowSelection(Strict):
    """The label rows of a stage, by their number of votes N."""

    min_votes: int = Field(default=1, ge=1)
    max_votes: int | None = Field(default=None, ge=1)
    at_min: Literal["all", "unanimous"] = "all"  # of the rows with exactly min_votes, all or those of one mind
    at_max: Literal["all", "divided"] = "all"  # of the rows with exactly max_votes, all or the others

    @model_validator(mode="after")
    def bounds_in_order(self) -> Self:
        if self.max_votes is None and self.at_max != "all":
            raise ValueError("at_max says which rows of exactly max_votes are taken: give max_votes too")
        if self.max_votes is not None and self.max_votes < self.min_votes:
            raise ValueError(f"max_votes = {self.max_votes} is below min_votes = {self.min_votes}")
        return self
