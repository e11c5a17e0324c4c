"""Which strategies can't work with which head or kind of incremental learning."""

from __future__ import annotations

REFUSED: dict[tuple[str, str], str] = {}
"""(strategy, kind of head or of incremental learning): why not, and what to use instead."""


def check_pair(strategy: str, *, model: str, head: str, incremental: str) -> None:
    """Refuse a strategy that can't work with this head or kind of stream.

    Args:
        strategy: its name in ``STRATEGIES``.
        model: name of the network; no strategy refuses one.
        head: single, growing or multi.
        incremental: class, domain or task.
    Raises: ValueError naming both sides and what to use instead.
    """
    for side, value in (("head", head), ("incremental", incremental)):
        reason = REFUSED.get((strategy, value))
        if reason is not None:
            raise ValueError(
                f"strategy={strategy} can't train model={model} with {side}={value}: {reason}"
            )
