"""Iterators that can be taken back to where they were, in another process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

Draws = list[tuple[int, Tensor]]
"""Positions at which an iterator drew random numbers, and torch's state before each."""


class Retraced(Iterator[Any]):
    """Count the items of an iterator and remember the random state it drew from.

    What it gives follows from that. Draws are looked for item by item (5 us), unless the
    iterable says (``draws_at_start``) that there are none after the first.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self._source = items
        self._items: Iterator[Any] | None = None
        self.position = 0
        self.draws: Draws = []

    def __next__(self) -> Any:
        if self._items is not None and getattr(self._source, "draws_at_start", False):
            item = next(self._items)
        else:
            before = torch.get_rng_state()
            self._items = iter(self._source) if self._items is None else self._items
            item = next(self._items)
            if not torch.equal(before, torch.get_rng_state()):
                self.draws.append((self.position, before))
        self.position += 1
        return item

    def walk_to(self, position: int, draws: Draws) -> None:
        """Go on to ``position``, with the random numbers drawn then."""
        states = {at: state for at, state in draws}
        while self.position < position:
            if self.position in states:
                torch.set_rng_state(states[self.position])
            next(self)


class RetracedLoader:
    """A training loader whose passes can be taken up in their midst.

    Args:
        loader: gives a fresh iterator for each pass.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.running: Retraced | None = None
        """The pass under way."""
        self._take_up: tuple[int, Draws, Callable[[], None]] | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def take_up(self, position: int, draws: Draws, then: Callable[[], None]) -> None:
        """Let the next pass begin behind ``position`` items.

        Args:
            then: is called when it is there, before the next item is fetched.
        """
        self._take_up = position, draws, then

    def __iter__(self) -> Iterator[Any]:
        self.running = items = Retraced(self.loader)
        if self._take_up is not None:
            position, draws, then = self._take_up
            self._take_up = None
            items.walk_to(position, draws)
            then()
        yield from items
