"""How many requests a server gets at a time."""

import time

# how many successes, for each request that is under way, before one more is tried
_SUCCESSES = 4
_MOST_SUCCESSES = 256


class Throttle:
    """The limit of requests under way: halved in trouble, raised again by one after many successes.

    Attributes
    ----------
    allowed : float
        The limit; infinite until there is trouble.
    """

    def __init__(self) -> None:
        self.allowed = float("inf")
        self._successes = 0  # since the last change
        self._patience = _SUCCESSES
        self._is_trial = False
        self._changed = 0.0

    def success(self) -> None:
        """Note a request that was answered."""
        self._successes += 1
        if self._successes >= self._patience * self.allowed:
            self.allowed += 1
            self._is_trial = True
            self._successes = 0

    def trouble(self, sent: float, under_way: int, most: int) -> None:
        """Note trouble of a request. Those that were sent before the last change count once.

        Parameters
        ----------
        sent : float
            When it was sent, on the monotonic clock.
        under_way : int
            How many were, this one included.
        most : int
            How many there could have been.
        """
        if sent < self._changed:
            return
        if self._is_trial:  # one more was too many
            self.allowed = max(1, self.allowed - 1)
            self._patience = min(2 * self._patience, _MOST_SUCCESSES)
        else:
            self.allowed = max(1, min(min(self.allowed, most) // 2, under_way - 1))
        self._is_trial = False
        self._successes = 0
        self._changed = time.monotonic()
