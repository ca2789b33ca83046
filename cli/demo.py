"""`yunxi demo`: the main job on generated exports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.frame import JsonOption, answering, err, out, print_json

commands = typer.Typer()


@commands.command()
@answering
def demo(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")] = Path("demo-run"),
    as_json: JsonOption = False,
) -> int:
    """Run the main job on generated exports of six departments, then forge three bytes and find them."""
    from demo.story import tell

    good = tell(directory, err if as_json else out)
    if as_json:
        print_json({"good": good, "node": directory / "node", "court": directory / "court"})
    return 0 if good else 1
