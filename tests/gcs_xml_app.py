"""What fake-gcs-server lacks of Google Cloud Storage, in front of it: a program.

That is uploads through the XML interface, and resumable sessions that can be asked what they have, and to which a
chunk may be sent twice. Unfinished uploads are kept here, all else is stored by, or passed on to, the server behind.
Its argument is that server's URL; it prints its own port.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4
from xml.etree import ElementTree as ET

from aiohttp import ClientSession, web
from yarl import URL

_LARGEST = 1024**3


@dataclass
class Upload:
    bucket: str
    key: str
    metadata: dict[str, str]
    initiated: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Session:
    described: dict[str, Any]
    data: bytearray = field(default_factory=bytearray)
    published: web.Response | None = None


class Front:
    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.uploads: dict[str, Upload] = {}
        self.sessions: dict[str, Session] = {}
        self.session: ClientSession

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query, place = request.query, request.rel_url.raw_path.lstrip("/")
        bucket, _, key = (URL(f"http://x/{part}", encoded=True).path[1:] for part in place.partition("/"))
        body = await request.read()
        if query.get("uploadType") == "resumable":
            return await self.of_session(request, place.split("/")[4], body)
        if bucket in {"storage", "upload", "download", "batch", "_internal"}:
            return await self.passed_on(request, body)
        if not key:
            return self.listed(bucket, query.get("prefix", ""))
        if request.method == "POST" and "uploads" in query:
            return self.begun(bucket, key, request)
        if "uploadId" in query:
            return await self.of_upload(request, query["uploadId"], body)
        if request.method == "PUT":
            match = request.headers.get("x-goog-if-generation-match")
            return await self.stored(bucket, key, _metadata(request), body, match)
        return await self.passed_on(request, body)

    async def passed_on(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        url = URL(self.behind + request.raw_path, encoded=True)
        async with self.session.request(
            request.method, url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            dropped = {"content-length", "transfer-encoding", "date"} if request.method != "HEAD" else {"date"}
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in dropped}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    async def of_session(self, request: web.Request, bucket: str, body: bytes) -> web.Response:
        if request.method == "POST":
            session_id = uuid4().hex
            self.sessions[session_id] = Session(json.loads(body))
            return web.Response(headers={"Location": str(request.url.update_query(upload_id=session_id))})
        session_id = request.query["upload_id"]
        if session_id not in self.sessions:
            return web.Response(status=404)
        if request.method == "DELETE":
            del self.sessions[session_id]
            return web.Response(status=499)
        return await self.chunk(self.sessions[session_id], bucket, request.headers["Content-Range"], body)

    async def chunk(self, session: Session, bucket: str, content_range: str, body: bytes) -> web.Response:
        span, _, total = content_range.removeprefix("bytes ").partition("/")
        if span != "*":
            start = int(span.partition("-")[0])
            session.data += body[max(0, len(session.data) - start) :]  # what is there already is ignored
        if total != str(len(session.data)):
            return web.Response(
                status=308, headers={"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
            )
        if session.published is None:
            session.published = await self.inserted(bucket, session.described, bytes(session.data), None)
        published = session.published
        return web.Response(status=published.status, body=published.body, content_type="application/json")

    def begun(self, bucket: str, key: str, request: web.Request) -> web.Response:
        upload_id = uuid4().hex
        self.uploads[upload_id] = Upload(bucket, key, _metadata(request))
        return _xml("InitiateMultipartUploadResult", {"Bucket": bucket, "Key": key, "UploadId": upload_id})

    async def of_upload(self, request: web.Request, upload_id: str, body: bytes) -> web.Response:
        upload = self.uploads.get(upload_id)
        if upload is None:
            return _xml("Error", {"Code": "NoSuchUpload"}, status=404)
        if request.method == "PUT":
            upload.parts[int(request.query["partNumber"])] = body
            return web.Response(headers={"ETag": _etag(body)})
        if request.method == "GET":
            root = ET.Element("ListPartsResult")
            for number in sorted(upload.parts):
                ET.SubElement(ET.SubElement(root, "Part"), "PartNumber").text = str(number)
            return web.Response(body=ET.tostring(root), content_type="application/xml")
        del self.uploads[upload_id]
        if request.method == "DELETE":
            return web.Response(status=204)
        order = [int(part.text or "") for part in ET.fromstring(body).iterfind("{*}Part/{*}PartNumber")]
        whole = b"".join(upload.parts[number] for number in order)
        stored = await self.stored(upload.bucket, upload.key, upload.metadata, whole, None)
        if stored.status != 200:
            return stored
        headers = {name: stored.headers[name] for name in ("ETag", "x-goog-generation")}
        return _xml("CompleteMultipartUploadResult", {"ETag": stored.headers["ETag"]}, headers=headers)

    async def stored(
        self, bucket: str, key: str, metadata: dict[str, str], body: bytes, match: str | None
    ) -> web.Response:
        answer = await self.inserted(bucket, {"name": key, "metadata": metadata}, body, match)
        if answer.status != 200:
            code = {404: "NoSuchBucket", 412: "PreconditionFailed"}[answer.status]
            return _xml("Error", {"Code": code}, status=answer.status)
        found = json.loads(answer.text or "")
        return web.Response(headers={"ETag": _etag(body), "x-goog-generation": found["generation"]})

    async def inserted(self, bucket: str, described: dict[str, Any], body: bytes, match: str | None) -> web.Response:
        head = b"--x\r\nContent-Type: application/json\r\n\r\n" + json.dumps(described).encode()
        whole = head + b"\r\n--x\r\n\r\n" + body + b"\r\n--x--"
        query = {"uploadType": "multipart", **({} if match is None else {"ifGenerationMatch": match})}
        url = f"{self.behind}/upload/storage/v1/b/{quote(bucket)}/o"
        headers = {"Content-Type": "multipart/related; boundary=x"}
        async with self.session.post(url, params=query, data=whole, headers=headers) as answer:
            return web.Response(status=answer.status, text=await answer.text(), content_type="application/json")

    def listed(self, bucket: str, prefix: str) -> web.Response:
        root = ET.Element("ListMultipartUploadsResult", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
        ET.SubElement(root, "IsTruncated").text = "false"
        for upload_id, upload in sorted(self.uploads.items(), key=lambda item: item[1].key):
            if upload.bucket == bucket and upload.key.startswith(prefix):
                entry = ET.SubElement(root, "Upload")
                for name, text in (("Key", upload.key), ("UploadId", upload_id), ("Initiated", upload.initiated)):
                    ET.SubElement(entry, name).text = text
        return web.Response(body=ET.tostring(root), content_type="application/xml")


def _metadata(request: web.Request) -> dict[str, str]:
    names = (name for name in request.headers if name.lower().startswith("x-goog-meta-"))
    return {name.lower().removeprefix("x-goog-meta-"): request.headers[name] for name in names}


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _xml(name: str, fields: dict[str, str], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    root = ET.Element(name)
    for field_name, text in fields.items():
        ET.SubElement(root, field_name).text = text
    return web.Response(status=status, body=ET.tostring(root), content_type="application/xml", headers=headers)


async def _serve(behind: str) -> None:
    front = Front(behind)
    app = web.Application(client_max_size=_LARGEST)
    app.router.add_route("*", "/{anything:.*}", front.answer)
    async with ClientSession(auto_decompress=False) as front.session:
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)  # noqa: T201  # for the parent
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
