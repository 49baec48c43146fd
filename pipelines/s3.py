"""Requests to an object store that speaks S3, through s3fs: asked again with growing pauses while they may pass.

Retries are here and nowhere below, so that one layer counts. Credentials, endpoint and region come from the
environment of the process that asks (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_PROFILE..., as botocore reads them);
they are in no value that is handed on, and what the libraries log of requests, signatures among it, is never shown.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import s3fs
from aiohttp import ClientError as ConnectionTrouble
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as Unreachable
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync

from pipelines.errors import OutageError, StoreError

logger = logging.getLogger(__name__)

PATIENCE_S = 75.0
"""How long a request may fail before it is given up: an outage of a minute is survived."""
_PAUSE_S, _MAX_PAUSE_S = 0.1, 8.0
"""Before the second try, doubled before each further one; at most."""
_TIMEOUT_S = 30.0
"""Without a byte, after which a request is given up and asked again."""
_PASSING = frozenset(
    (
        *("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "Throttling"),
        *("ConditionalRequestConflict", "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody"),
    )
)
"""Codes of answers that may be others the next time; the first of the second line is said to the slower of two
conditional writes."""
_TALKERS = ("s3fs", "fsspec", "botocore", "aiobotocore", "aiohttp")
"""Libraries that log requests, where everything is logged: with signatures and session tokens in them."""
_lock = threading.Lock()
_stores: dict[int, Any] = {}

Answer = dict[str, Any]
T = TypeVar("T")


class UnmetError(StoreError):
    """The condition of a request does not hold: an object is there, or is another one."""


class MissingError(StoreError):
    """There is no such object."""


class CutError(StoreError):
    """A body that came short or damaged: asked for again."""


def asked(method: str, place: str, arguments: dict[str, object], body: bytes | Path | None = None) -> Answer:
    """The answer to a request, by boto3's names of requests and their arguments. place is told in errors.

    Raises MissingError, UnmetError, OutageError, and StoreError for what else does not pass.
    """
    return within(partial(_request, method, body, arguments), place)


def within(attempt: Callable[[], Awaitable[T]], place: str) -> T:
    """What an attempt gives, tried again while it may pass, up to PATIENCE_S. Raises as `asked` does."""
    started, pause = time.monotonic(), _PAUSE_S
    while True:
        try:
            return sync(store().loop, attempt)  # type: ignore[no-any-return]
        except Exception as error:
            if not _may_pass(error):
                raise _translated(error, place) from error
            waited = time.monotonic() - started
            if waited > PATIENCE_S:
                reason = f"the store has failed for {waited:.0f} s, at last with {_line(error)}"
                raise OutageError(f"{place}: {reason}; run again when it answers") from error
            logger.debug("%s: %s; asked again", place, _line(error))
        # Not all at once after an outage.
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
        pause = min(2 * pause, _MAX_PAUSE_S)


def store() -> Any:  # noqa: ANN401  s3fs ships no types
    """The connection of this process."""
    with _lock:
        found = _stores.get(os.getpid())
        if found is None:
            for name in _TALKERS:
                logging.getLogger(name).setLevel(logging.WARNING)
            once = {"retries": {"total_max_attempts": 1, "mode": "standard"}}
            timeouts = {"connect_timeout": _TIMEOUT_S, "read_timeout": _TIMEOUT_S}
            found = s3fs.S3FileSystem(skip_instance_cache=True, config_kwargs={**once, **timeouts})
            found.retries = 1
            _stores.clear()
            _stores[os.getpid()] = found
        return found


def forget() -> None:
    """Drop the connection: the next request reads the environment anew."""
    with _lock:
        _stores.clear()


async def call(method: str, **arguments: object) -> Answer:
    """One request, once."""
    return await store()._call_s3(method, **arguments)  # type: ignore[no-any-return]  # noqa: SLF001  sync outside


async def _request(method: str, body: bytes | Path | None, arguments: dict[str, object]) -> Answer:
    if body is None:
        return await call(method, **arguments)
    opened: AbstractContextManager[object] = body.open("rb") if isinstance(body, Path) else nullcontext(body)
    with opened as content:
        return await call(method, Body=content, **arguments)


def _may_pass(error: BaseException) -> bool:
    """Whether the store or the network said no for now."""
    cause = error.__cause__ if isinstance(error.__cause__, ClientError) else error
    if isinstance(cause, ClientError):
        status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status in (408, 429) or status >= 500 or cause.response["Error"].get("Code") in _PASSING
    passing = HTTPClientError, Unreachable, IncompleteReadError, ResponseParserError, ConnectionTrouble, CutError
    return isinstance(error, (*passing, asyncio.TimeoutError, TimeoutError, ConnectionError))


def _translated(error: Exception, place: str) -> Exception:
    if isinstance(error.__cause__, ClientError):
        return _refusal(error.__cause__, place)
    if isinstance(error, BotoCoreError):
        way = "credentials and endpoint come from the environment, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL"
        return StoreError(f"{place}: cannot be asked for: {_line(error)}; {way}")
    return error


def _refusal(error: ClientError, place: str) -> StoreError:
    """What a store's answer means."""
    code = error.response["Error"].get("Code", "")
    if code == "NoSuchBucket":
        return StoreError(f"{place}: there is no such bucket; create it, or name another")
    match error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"):
        case 404:
            return MissingError(f"{place}: there is no such object")
        case 412:
            return UnmetError(f"{place}: is another object than was seen before")
        case 401 | 403:
            return StoreError(f"{place}: access is refused ({code}); see to the credentials of the environment")
    return StoreError(f"{place}: {_line(error)}")


def _line(error: BaseException) -> str:
    """The first line of what an error says, at most 200 characters."""
    said = str(error).strip().splitlines()
    return (said[0] if said else type(error).__name__)[:200]
