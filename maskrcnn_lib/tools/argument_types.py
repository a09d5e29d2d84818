"""Numbers on a command line that can only be meant within limits; others are wrong usage."""

import argparse


def probability(text: str) -> float:
    """For argparse: a number within 0 and 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie within 0 and 1")
    return value


def count(text: str) -> int:
    """For argparse: a whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
