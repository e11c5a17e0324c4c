"""Command lines of the benchmarks: what is asked for is checked before it is timed."""

import argparse


def positive(text: str) -> int:
    """A whole number from 1, as a type of ``argparse``."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number from 1")
    return int(text)
