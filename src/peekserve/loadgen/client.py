"""An open-loop client: every request leaves at its own time, whatever became of those before it.

Latency is counted from the drawn instant, not from when the client got round to sending, so that a client which is
late itself is seen to be (its lag is reported) and never makes the server look better.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp


@dataclass(frozen=True, slots=True)
class Call:
    """A request ready to be sent: `at` seconds from the start."""

    at: float
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. Instants are seconds from the start; `status` 0 means no answer, with the reason in `body`."""

    sent_at: float
    done_at: float
    status: int
    body: bytes


async def send(
    base: str,
    calls: Sequence[Call],
    on_reply: Callable[[int, Reply], None] | None = None,
    patience_s: float = 30.0,
) -> list[Reply]:
    """Send all calls (rising in `at`) to http://`base`; the replies in the order of the calls."""
    loop = asyncio.get_running_loop()
    replies: list[Reply | None] = [None] * len(calls)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    timeout = aiohttp.ClientTimeout(total=patience_s)
    async with aiohttp.ClientSession(f"http://{base}", connector=connector, timeout=timeout) as session:
        start = loop.time() + 0.05

        async def one(index: int, call: Call) -> None:
            sent_at = loop.time() - start
            try:
                async with session.post(call.path, data=call.body, headers=call.headers) as response:
                    body, status = await response.read(), response.status
            except (aiohttp.ClientError, TimeoutError) as error:
                body, status = f"{type(error).__name__}: {error}".encode(), 0
            reply = Reply(sent_at, loop.time() - start, status, body)
            replies[index] = reply
            if on_reply is not None:
                on_reply(index, reply)

        async with asyncio.TaskGroup() as group:
            for index, call in enumerate(calls):
                wait = start + call.at - loop.time()
                if wait > 0.0:
                    await asyncio.sleep(wait)
                group.create_task(one(index, call))
    return [reply for reply in replies if reply is not None]
