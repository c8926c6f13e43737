"""How often one requester may ask: requests by key (or by address, where no key is needed), failed keys by address.

Counted in this process: with several servers behind one address each counts for itself.
"""

from collections.abc import Callable

from limits import RateLimitItem, RateLimitItemPerMinute, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.errors import TooManyRequests

FAILURES = RateLimitItemPerMinute(20)  # each costs a run of scrypt
OFF = "off"


def parse_rate(text: str) -> RateLimitItem | None:
    """A rate in the words of the library, such as "1200/minute"; None for "off".

    Raises:
        ValueError: not a rate.
    """
    return None if text == OFF else parse(text)


class RateLimits:
    """Thread-safe. `requests` None: only failed keys are counted."""

    def __init__(self, requests: RateLimitItem | None, *, failures: RateLimitItem = FAILURES) -> None:
        self._requests = requests
        self._failures = failures
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count_request(self, requester: str) -> None:
        """Raise TooManyRequests when the requester has asked too often."""
        if self._requests is not None:
            self._check(self._requests, requester, self._limiter.hit, "requests")

    def check_failures(self, address: str) -> None:
        """Raise TooManyRequests when too many wrong keys came from the address."""
        self._check(self._failures, f"failures {address}", self._limiter.test, "wrong API keys")

    def count_failure(self, address: str) -> None:
        """A wrong key came from the address."""
        self._limiter.hit(self._failures, f"failures {address}")

    def _check(self, rate: RateLimitItem, requester: str, allowed: Callable[..., bool], what: str) -> None:
        if not allowed(rate, requester):
            left = self._limiter.get_window_stats(rate, requester).reset_time
            raise TooManyRequests(f"at most {rate.amount} {what} per {_period(rate)} are answered", until=left)


def _period(rate: RateLimitItem) -> str:
    name = str(rate.GRANULARITY.name)
    return name if rate.multiples == 1 else f"{rate.multiples} {name}s"
