"""One attempt to deliver a message over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from ropewalk.client.certificates import trusted
from service.errors import AddressNotAllowed
from service.webhooks.addresses import Network, Target, check_url
from service.webhooks.message import Message, message_of
from storage.deliveries import Due

ANSWER_SECONDS = 10.0  # of a receiver, from the connection to the status
MAX_REASON = 300  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How an attempt went; `status` None: there was no answer."""

    status: int | None
    reason: str | None

    @property
    def is_success(self) -> bool:
        """Any 2xx."""
        return self.status is not None and 200 <= self.status < 300


def send(due: Due, *, allowed: Sequence[Network]) -> Answer:
    """One attempt. It never raises, and follows no redirect: where that leads nobody has checked."""
    message = message_of(due, timestamp=int(time.time()))
    try:
        target = check_url(due.url, allowed=allowed)
        status = asyncio.run(_post_in_time(target, message))
    except AddressNotAllowed as error:
        return Answer(status=None, reason=str(error)[:MAX_REASON])
    except TimeoutError:
        return Answer(status=None, reason=f"the receiver did not answer within {ANSWER_SECONDS:.0f} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return Answer(status=None, reason=f"{type(error).__name__}: {error}"[:MAX_REASON])
    if 200 <= status < 300:
        return Answer(status=status, reason=None)
    redirects = "; redirects are not followed" if 300 <= status < 400 else ""
    return Answer(status=status, reason=f"the receiver answered {status}{redirects}")


async def _post_in_time(target: Target, message: Message) -> int:
    """However slowly the receiver answers, byte by byte."""
    async with asyncio.timeout(ANSWER_SECONDS):
        return await _post(target, message)


async def _post(target: Target, message: Message) -> int:
    """The status, of the first address that can be connected to. The body of the answer is not read."""
    last: httpx.HTTPError | None = None
    # No proxies of the environment and no .netrc: they would be told, and could be asked for, anything.
    async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS, verify=trusted()) as client:
        for address in target.addresses:
            literal = f"[{address}]" if address.version == 6 else str(address)
            request = client.build_request(
                "POST",
                target.url._replace(netloc=f"{literal}:{target.port}").geturl(),
                content=message.body,
                headers={**message.headers, "host": target.url.netloc},
                extensions={"sni_hostname": target.host},  # the certificate is that of the name
            )
            try:
                response = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                last = error
                continue
            await response.aclose()
            return response.status_code
    assert last is not None, "a host that is found has an address"
    raise last
