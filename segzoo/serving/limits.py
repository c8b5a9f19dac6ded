"""Limits of a server, and the refusal of a request that is over one."""

from __future__ import annotations

from dataclasses import dataclass

from segzoo.errors import SegzooError


@dataclass(frozen=True)
class Limits:
    """Limits of what one request, and all of them together, may cost.

    Attributes:
        max_bytes: most bytes of the body of a request.
        max_pixels: most pixels of an image, told by its header before it is decoded.
        batch: most images that are computed at once.
        waiting: most requests that are read, wait or are computed at a time; each may hold `max_bytes` and an image.
        seconds: time that the body of a request may take to arrive.

    Raises:
        SegzooError: a limit below 1.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 64 * 2**20
    batch: int = 4
    waiting: int = 64
    seconds: float = 60

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 1:
                raise SegzooError(f"{name} must be 1 or more, got {value}.")


class RefusedError(SegzooError):
    """A request that is not answered by a prediction.

    Args:
        status: status code of HTTP.
        message: what is wrong and what to do; goes to the client, so it names no path of this machine.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
