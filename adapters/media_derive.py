"""Copies made from an original: thumbnails, copies without metadata, blurred regions, clips; and what was done to them.

The original is never touched, and no file is written over; an image's output gets the suffix of its format. A copy of
an image is written anew from its pixels, turned upright, so nothing else travels along: no EXIF, no preview, no second
picture, no colour profile, no bytes behind the end.
Regions are pixels of the upright image. A blurred region is made of four mean colours and nothing else, because a mere
blur can be computed backwards. Four colours still tell a white car from a red one; `fill` tells nothing at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import PIL
from PIL import Image

from adapters.media_images import check_pixels, open_image
from adapters.transform import MEDIA_TYPES
from ledger.errors import CouldNotRun, Malformed

THUMBNAIL_PIXELS = 320
JPEG_QUALITY = 92
BLOCKS = 2
"""How many mean colours remain along each side of a blurred region."""

MAX_REGIONS = 200
CLIP_SECONDS = 3_600  # what ffmpeg is given to finish

_TOOL = {"name": "yunxi+pillow", "version": PIL.__version__}


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in pixels of the upright image: its left upper corner, width and height."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Region:
        """From `left,top,width,height`. Raises Malformed."""
        if not re.fullmatch(r"\d{1,6}(,\d{1,6}){3}", text, re.ASCII):
            raise Malformed("region", f"{text[:40]!r} is not left,top,width,height in pixels")
        return cls(*map(int, text.split(",")))

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width},{self.height}"

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, upper, right and lower border, as Pillow counts."""
        return self.left, self.top, self.left + self.width, self.top + self.height


@dataclass(frozen=True, slots=True)
class Derived:
    """A copy on disk, and the members `operations` and `tool` of its `media.derived` record."""

    path: Path
    media_type: str
    sha256: str
    size: int
    operations: tuple[dict[str, Any], ...]
    tool: dict[str, str]


def make_thumbnail(original: Path) -> bytes:
    """A JPEG of at most 320 pixels a side; never on disk, since terminals leave nothing in the clear. Raises Malformed
    for what is no image, or one too large to decode."""
    with open_image(original) as image:
        image.draft("RGB", (2 * THUMBNAIL_PIXELS, 2 * THUMBNAIL_PIXELS))  # a JPEG is decoded at a fraction of its size
        check_pixels(original, image)
        upright = _upright(image)
    upright.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    encoded = BytesIO()
    upright.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return encoded.getvalue()


def derive_clean(original: Path, output: Path) -> Derived:
    """The same picture without anything else, in the original's format (TIFF and WebP become PNG). Raises as
    `make_thumbnail`."""
    upright, kind = _read(original)
    return _write(upright, kind, output, _UPRIGHT)


def derive_blurred(original: Path, regions: Sequence[Region], output: Path, *, fill: bool = False) -> Derived:
    """The same with `regions` made unrecognisable: blurred, or black with `fill`. Raises as `make_thumbnail`, and
    Malformed for no region, too many, or one that does not lie in the upright image."""
    if not 1 <= len(regions) <= MAX_REGIONS:
        raise Malformed("regions", f"there must be 1 to {MAX_REGIONS}")
    upright, kind = _read(original)
    for region in regions:
        _check_region(region, upright)
    for region in regions:
        _hide(upright, region, fill=fill)
    done = {
        "operation": "fill" if fill else "blur",
        "regions": len(regions),
        "parameters": [f"region={region}" for region in regions],
    }
    return _write(upright, kind, output, [*_UPRIGHT, done])


def derive_clip(original: Path, start_ms: int, end_ms: int, output: Path) -> Derived:
    """The part of a movie from `start_ms` to `end_ms`, cut by ffmpeg and encoded anew, without metadata.

    Raises CouldNotRun where there is no ffmpeg, Malformed where it cannot read the movie or the part has no frames.
    """
    if not 0 <= start_ms < end_ms:
        raise Malformed("clip", "it must end after it begins")
    if output.exists():
        raise FileExistsError(errno.EEXIST, "it is there already", str(output))
    program = shutil.which("ffmpeg")
    if program is None:
        raise CouldNotRun("clips are cut by ffmpeg, which is not installed: install it, or cut with another tool and "
                          "record that with `yunxi media derive --copy`")  # fmt: skip
    version = _ffmpeg_version(program)
    command = [
        program, "-nostdin", "-hide_banner", "-loglevel", "error",
        "-protocol_whitelist", "file", "-format_whitelist", "mov,mp4",  # a playlist could name other files
        "-ss", _seconds(start_ms), "-to", _seconds(end_ms), "-i", f"file:{original}",
        "-map", "0:v:0?", "-map", "0:a:0?", "-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact",
        "-movflags", "+faststart", "-f", "mp4", f"file:{output}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=CLIP_SECONDS)  # noqa: S603  no shell
    except subprocess.TimeoutExpired as error:
        raise CouldNotRun(f"ffmpeg did not finish within {CLIP_SECONDS:,} seconds: cut a shorter part") from error
    if done.returncode != 0 or not output.exists() or output.stat().st_size == 0:
        output.unlink(missing_ok=True)
        raise Malformed(original.name, "ffmpeg cannot cut this part of it: check the movie and the times")
    parameters = [f"start_ms={start_ms}", f"end_ms={end_ms}"]
    operations: tuple[dict[str, Any], ...] = (
        {"operation": "clip", "parameters": parameters}, {"operation": "re-encode"}, *_DROPPED
    )  # fmt: skip
    return Derived(output, "video/mp4", *_digest(output), operations, {"name": "ffmpeg", "version": version})


def derived_elsewhere(copy: Path, tool: str, done: Sequence[str]) -> Derived:
    """A copy that another tool made: `tool` as NAME/VERSION, `done` what it did, a line each. Nothing of it is checked.

    Raises Malformed for another form of `tool`.
    """
    name, _, version = tool.partition("/")
    if not name.strip() or not version.strip():
        raise Malformed("tool", f"{tool[:40]!r} is not NAME/VERSION")
    operations = tuple({"operation": "other", "parameters": [line]} for line in done)
    media_type = MEDIA_TYPES.get(copy.suffix.lower(), "application/octet-stream")
    return Derived(copy, media_type, *_digest(copy), operations, {"name": name.strip(), "version": version.strip()})


# -- pixels --

_DROPPED: tuple[dict[str, Any], ...] = ({"operation": "drop-metadata"},)
_UPRIGHT: tuple[dict[str, Any], ...] = ({"operation": "turn-upright"}, *_DROPPED)


def upright_pixels(path: Path) -> Image.Image:
    """The picture of an image file, decoded and turned upright. Raises as `make_thumbnail`."""
    return _read(path)[0]


def _read(path: Path) -> tuple[Image.Image, str]:
    """The upright picture, and the format that a copy of it has."""
    with open_image(path) as image:
        check_pixels(path, image)
        return _upright(image), "JPEG" if image.format in ("JPEG", "MPO") else "PNG"


def _upright(image: Image.Image) -> Image.Image:
    plain = _opaque(image)
    orientation = image.getexif().get(0x0112)
    plain.info = {}
    if orientation in _TURNS:
        plain = plain.transpose(_TURNS[orientation])
    return plain


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.copy() if image.mode in ("RGB", "L") else image.convert("RGB")
    # what is transparent has colours too, which nobody saw in the original
    seen = image.convert("RGBA")
    plain = Image.new("RGB", image.size, "white")
    plain.paste(seen, mask=seen.getchannel("A"))
    return plain


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _check_region(region: Region, image: Image.Image) -> None:
    left, top, right, bottom = region.box
    if region.width < 1 or region.height < 1 or right > image.width or bottom > image.height or left < 0 or top < 0:
        size = f"{image.width} × {image.height}"
        raise Malformed("region", f"{region} does not lie in the image, which is {size} pixels when upright")


def _hide(image: Image.Image, region: Region, *, fill: bool) -> None:
    if fill:
        image.paste(0 if image.mode == "L" else (0, 0, 0), region.box)
        return
    few = image.crop(region.box).resize((BLOCKS, BLOCKS), Image.Resampling.BOX)
    image.paste(few.resize((region.width, region.height), Image.Resampling.BICUBIC), region.box)


def _write(image: Image.Image, kind: str, output: Path, operations: Sequence[dict[str, Any]]) -> Derived:
    quality = {"quality": JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {}
    encoded = {"operation": "re-encode", "parameters": [f"format={kind}", *(f"{n}={v}" for n, v in quality.items())]}
    output = output.with_suffix(".jpg" if kind == "JPEG" else ".png")
    with output.open("xb") as file:
        done = False
        try:
            image.save(file, kind, **quality)
            file.flush()
            os.fsync(file.fileno())
            done = True
        finally:
            if not done:
                output.unlink()
    return Derived(output, f"image/{kind.lower()}", *_digest(output), (*operations, encoded), dict(_TOOL))


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def _ffmpeg_version(program: str) -> str:
    done = subprocess.run([program, "-version"], capture_output=True, check=False, timeout=30)  # noqa: S603  no shell
    matched = re.match(r"ffmpeg version (\S{1,80})", done.stdout.decode("utf-8", "replace"))
    return matched[1] if matched else "unknown"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03}"
