"""Iterators that can be taken back to where they were, in another process."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class ReplayableIterator(Iterator[Any]):
    """Count the items of an iterator and remember the random state it drew from.

    What it gives follows from that. Draws are looked for item by item (5 us), unless the
    iterable says (``draws_at_start``) that there are none after the first.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self._source = items
        self._items: Iterator[Any] | None = None
        self.position = 0
        self.draws: list[tuple[int, Tensor]] = []  # where, and torch's state before

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

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "draws": list(self.draws)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on to the position of the state, with the random numbers drawn then."""
        states = dict(state["draws"])
        while self.position < state["position"]:
            if self.position in states:
                torch.set_rng_state(states[self.position])
            next(self)


class ReplayableLoader:
    """A training loader whose passes can be resumed in their midst."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.running: ReplayableIterator | None = None
        """The pass under way."""
        self._resume: tuple[Mapping[str, Any], Callable[[], None]] | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def resume(self, state: Mapping[str, Any], then: Callable[[], None]) -> None:
        """Let the next pass begin where the iterator of ``state`` was.

        Args:
            then: is called when it is there, before the next item is fetched.
        """
        self._resume = state, then

    def __iter__(self) -> Iterator[Any]:
        self.running = items = ReplayableIterator(self.loader)
        if self._resume is not None:
            state, then = self._resume
            self._resume = None
            items.load_state_dict(state)
            then()
        yield from items
