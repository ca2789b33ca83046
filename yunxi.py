"""The `yunxi` command: composition root, nothing but wiring."""


def main() -> None:
    """Entry point of the console script."""
    raise SystemExit(2)
