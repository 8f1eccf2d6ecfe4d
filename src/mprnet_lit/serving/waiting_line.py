"""Line of photos that wait for their turn, with a limited length and a limited memory."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mprnet_lit.utils.errors import UserError

WAITING = 20
"""Maximum number of photos that wait, of the page and of the REST endpoint together.

Each of them holds one of the 40 threads of the web server, as do the at most 16 photos that have
their turn. The others must suffice for uploads and downloads, or no photo would get a thread.
"""


class BusyError(UserError):
    """Refusal of a photo because too many photos wait."""

    def __init__(self) -> None:
        super().__init__("too many photos wait: try again later")


class Ticket:
    """Place of a photo in a :class:`WaitingLine`.

    Args:
        line: line of the photo.
        needed: estimated memory for the photo in bytes.
        available: function that returns the memory for all photos in bytes.
        batch: maximum number of photos of this size in a batch.
        name: name by which a client asks for the place; ``None`` if nobody asks.

    Attributes:
        is_alone: whether no other photo had its turn when the turn of this photo began. Its memory
            was not checked then.
    """

    def __init__(
        self,
        line: "WaitingLine",
        needed: float,
        available: Callable[[], float],
        batch: int,
        name: str | None,
    ) -> None:
        self._line, self.needed, self.available = line, needed, available
        self.batch, self.name = batch, name
        self.is_alone = True

    @property
    def place(self) -> int:
        """Place in the line, starting at 1; 0 if it is the turn of the photo."""
        return self._line.place_of(self)

    def wait(self, known: int = 0) -> int:
        """Wait for the turn of the photo, or for another place than a known one.

        Args:
            known: last known place; 0 waits for the turn only.

        Returns:
            The place.
        """
        return self._line.wait(self, known)


class WaitingLine:
    """Line of photos, in the order of their arrival.

    The photos of two batches have their turn at once, as long as their memory is available: one
    batch is decoded or encoded while the device restores the other. A photo that needs more memory
    has its turn alone.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Ticket] = []
        self._served: list[Ticket] = []

    @property
    def length(self) -> int:
        """Number of photos that wait."""
        return len(self._waiting)

    @contextmanager
    def joined(
        self,
        needed: float,
        available: Callable[[], float],
        batch: int = 1,
        name: str | None = None,
    ) -> Iterator[Ticket]:
        """Hold a place in the line; the memory is free for other photos afterwards.

        Args:
            needed: estimated memory for the photo in bytes.
            available: function that returns the memory for all photos in bytes.
            batch: maximum number of photos of this size in a batch.
            name: name by which a client asks for the place.

        Raises:
            BusyError: 20 photos wait.
        """
        ticket = Ticket(self, needed, available, batch, name)
        with self._changed:
            if len(self._waiting) >= WAITING:
                raise BusyError
            self._waiting.append(ticket)
        try:
            with self._changed:
                self._admit()
            yield ticket
        finally:
            with self._changed:
                (self._served if ticket in self._served else self._waiting).remove(ticket)
                self._admit()

    def place(self, name: str) -> int | None:
        """Return the place of the photo with a name; ``None`` if there is no such photo."""
        with self._changed:
            found = [ticket for ticket in (*self._waiting, *self._served) if ticket.name == name]
        return found[0].place if found else None

    def place_of(self, ticket: Ticket) -> int:
        """Return the place of a photo, starting at 1; 0 if it is its turn."""
        with self._changed:
            return self._waiting.index(ticket) + 1 if ticket in self._waiting else 0

    def wait(self, ticket: Ticket, known: int) -> int:
        """Wait for the turn of a photo, or for another place than ``known``; return the place."""
        with self._changed:
            self._changed.wait_for(lambda: ticket.place == 0 or known not in (0, ticket.place))
            return ticket.place

    def _admit(self) -> None:
        """Serve the first photos in the line while there is room for them."""
        while self._waiting:
            first = self._waiting[0]
            together = (first, *self._served)
            if self._served and (
                len(together) > 2 * min(ticket.batch for ticket in together)
                or sum(ticket.needed for ticket in together) > first.available()
            ):
                break
            first.is_alone = not self._served
            self._served.append(self._waiting.pop(0))
        self._changed.notify_all()
