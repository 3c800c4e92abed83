"""The base of all errors that a user can cause and correct, and what is said of them in more than one place."""

from common.schema import REGIONS


class KitError(Exception):
    """Its message says what was found, what was expected and what to do; commands print it without a traceback."""


def other_regions(regions: tuple[str, ...]) -> str:
    """Why weights that saw the spectrogram's regions in this order cannot be used."""
    return (
        f"trained with the regions in the order {', '.join(regions)}, this version of the kit has "
        f"{', '.join(REGIONS)}, as the competition's files: the nets would see panels exchanged. Train it again"
    )
