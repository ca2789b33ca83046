"""Opening images that may be hostile, for all who read or change them. Pillow, with its own bounds and ours."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ledger.errors import Malformed

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")
"""A JPEG with a second picture behind it, as phones write it, calls itself MPO once it is open."""

MAX_PIXELS = 128_000_000
"""Of an image whose pixels are decoded: half a gigabyte. The largest phones have 108 million."""

MAX_HEADER_PIXELS = 1_000_000_000
"""Of an image whose headers are read."""

# Pillow's own alarm is set behind ours, so that there is one answer to an image that is too large
Image.MAX_IMAGE_PIXELS = MAX_HEADER_PIXELS


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image whose headers were read, none of its pixels. Raises OSError where the file cannot be opened, Malformed
    for everything that Pillow raises, also in the block: so nothing else belongs there."""
    with path.open("rb") as file:
        try:
            # a tag that lies is passed over with a warning, and whoever asked for facts gets those that are left
            with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MAX_HEADER_PIXELS:
                    raise Malformed(path.name, f"is an image of more than {MAX_HEADER_PIXELS:,} pixels")
                yield image
        except Image.DecompressionBombError as error:
            raise Malformed(path.name, f"is an image of more than {MAX_HEADER_PIXELS:,} pixels") from error
        # what Pillow's readers raise for bytes that lie
        except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
            raise Malformed(path.name, "is no whole JPEG, PNG, TIFF or WebP image") from error


def check_pixels(path: Path, image: Image.Image) -> None:
    """Raises Malformed for an image that is too large to be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise Malformed(
            path.name, f"has {image.width * image.height:,} pixels, more than {MAX_PIXELS:,}: make it smaller"
        )
