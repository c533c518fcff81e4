"""Delete many objects: a hundred in a request, four requests at a time.

https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from email.message import Message
from email.parser import BytesParser
from typing import cast

from ckptstore.errors import KeyNotFound, StoreError, StoreUnavailable
from ckptstore_backends._gcs_answers import Answer
from ckptstore_backends._gcs_client import GCSClient
from ckptstore_backends._gcs_errors import judged
from ckptstore_backends._gcs_http import Request

_BATCH = 100
_IN_FLIGHT = 4


def delete_objects(client: GCSClient, keys: Sequence[str]) -> None:
    """Delete objects; absent ones are no error.

    Raises:
        StoreError: naming the first that could not be deleted; the others are gone.
    """
    failures = client.run(_delete_all(client, keys))
    if failures:
        error = next(iter(failures.values()))
        if len(failures) > 1:
            error.add_note(f"{len(failures) - 1} more could not be deleted either; the rest are gone")
        raise error


async def _delete_all(client: GCSClient, keys: Sequence[str]) -> Mapping[str, StoreError]:
    room = asyncio.Semaphore(_IN_FLIGHT)

    async def delete(batch: Sequence[str]) -> Mapping[str, StoreError]:
        async with room:
            return await (_delete_one(client, batch[0]) if len(batch) == 1 else _delete_batch(client, batch))

    batches = [keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH)]
    found = await asyncio.gather(*(delete(batch) for batch in batches))
    return {key: error for failures in found for key, error in failures.items()}


async def _delete_one(client: GCSClient, key: str) -> Mapping[str, StoreError]:
    try:
        await client.request(Request("DELETE", client.object_path(key)), client.asked("delete", key))
    except KeyNotFound:
        return {}
    except StoreError as error:
        return {key: error}
    return {}


async def _delete_batch(client: GCSClient, keys: Sequence[str]) -> Mapping[str, StoreError]:
    boundary = secrets.token_hex(16)
    parts = "".join(_part(client, boundary, number, key) for number, key in enumerate(keys))
    body = memoryview(f"{parts}--{boundary}--\r\n".encode())
    headers = {"Content-Type": f"multipart/mixed; boundary={boundary}"}
    asked = client.asked(f"delete {keys[0]!r} and {len(keys) - 1} others")
    answer = await client.request(Request("POST", "batch/storage/v1", {}, headers, (body,)), asked)
    answers = _answers(answer)
    failures: dict[str, StoreError] = {}
    for number, key in enumerate(keys):
        one = answers.get(number)
        error = None if one is None else _judged(client, key, one)
        if one is None or isinstance(error, StoreUnavailable):
            failures.update(await _delete_one(client, key))
        elif error is not None:
            failures[key] = error
    return failures


def _judged(client: GCSClient, key: str, answer: Answer) -> StoreError | None:
    if answer.status < 300 or answer.status == 404:
        return None
    return judged(answer.status, answer.reason, client.asked("delete", key), anonymous=client.tokens.anonymous)


def _part(client: GCSClient, boundary: str, number: int, key: str) -> str:
    target = client.target(Request("DELETE", client.object_path(key)))
    return (
        f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <ckptstore+{number}>\r\n\r\n"
        f"DELETE /{target} HTTP/1.1\r\n\r\n\r\n"
    )


def _answers(answer: Answer) -> Mapping[int, Answer]:
    """Take the answers of a batch apart, by the number of the request in it."""
    head = f"Content-Type: {answer.headers.get('content-type', '')}\r\n\r\n".encode()
    whole = BytesParser().parsebytes(head + bytes(answer.body))
    parts = cast("list[Message]", whole.get_payload()) if whole.is_multipart() else []
    return {_number(part): _answer(part) for part in parts}


def _number(part: Message) -> int:
    return int(part["Content-ID"].rstrip(">").rpartition("+")[2])


def _answer(part: Message) -> Answer:
    text = cast("str", part.get_payload())
    status = int(text.split(maxsplit=2)[1])
    body = text.replace("\r\n", "\n").partition("\n\n")[2]
    return Answer(status, {}, memoryview(body.encode()))
