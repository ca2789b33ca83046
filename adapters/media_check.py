"""Whether a derived picture shows what its original shows, but for the regions that its record names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from adapters.media_derive import Region, upright_pixels
from ledger.errors import NotProven

BLOCK = 8
"""Side of the squares whose mean is compared."""

MARGIN = 16
"""Around a region nothing is compared: JPEG smears within as much."""

TOLERANCE = 16
"""By how much of 255 a square may differ on average: what saving as JPEG again does, and nothing that can be seen."""

_COMPARABLE = frozenset({"turn-upright", "drop-metadata", "blur", "fill", "re-encode"})


def is_comparable(operations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the operations leave a picture of the same size, whose rest can be compared."""
    return all(done["operation"] in _COMPARABLE for done in operations)


def regions_of(operations: Sequence[Mapping[str, Any]]) -> list[Region]:
    """The regions that were hidden. Raises Malformed for one that is none."""
    lines = [line for done in operations for line in done.get("parameters", ())]
    return [Region.parse(line.removeprefix("region=")) for line in lines if line.startswith("region=")]


def compare_outside(original: Path, derivative: Path, regions: Sequence[Region]) -> int:
    """The largest mean difference, 0 to 255, of a square of 8 pixels a side outside `regions`.

    Raises NotProven where it is more than saving again explains, or the sizes differ; Malformed for what is no image.
    """
    first, second = upright_pixels(original).convert("RGB"), upright_pixels(derivative).convert("RGB")
    if first.size != second.size:
        raise NotProven(f"the original has {_size(first)} pixels and the derivative {_size(second)}")
    difference = ImageChops.difference(first, second)
    for region in regions:
        left, top, right, bottom = region.box
        difference.paste((0, 0, 0), (left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN))
    largest = max(difference.reduce(BLOCK).tobytes())
    if largest > TOLERANCE:
        raise NotProven("the derivative shows something else than the original outside the regions that are named")
    return largest


def _size(image: Image.Image) -> str:
    return f"{image.width} × {image.height}"
