"""A bucket of an object store, as a place of files: every object is seen whole, and none is replaced unseen."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from pipelines import s3
from pipelines.checked import file_sha256
from pipelines.errors import JobError, StoreError
from pipelines.place import ConflictError, Found

_MAX_PUT_NBYTES = 5_000_000_000
"""Bytes that one PUT takes, by S3's own limit."""
_PAGE = 1000
"""Objects of a listing that are asked for and held at once; S3 gives no more."""
_PIECE_NBYTES = 1 << 20
"""Bytes of a body that are read at once."""
_SHA256 = "refine-sha256"
"""Metadata of every object that is written here: what it holds, and that it is ours to replace."""
_MINE = "refine-copy-{}-".format(re.sub(r"\D", "", str(Path("/proc/self/ns/pid").resolve().name)))
"""Before the number of the process that fetched a copy: numbers mean something within a namespace."""
_TYPES = {
    ".avif": "image/avif",
    ".html": "text/html; charset=utf-8",
    ".jpe": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".jxl": "image/jxl",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}
"""By suffix; Python's own list differs from machine to machine."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Objects below a prefix of a bucket."""

    name: str
    """Of the bucket."""
    prefix: str = ""
    """Of the keys, without a slash at its end; empty for the whole bucket."""

    @property
    def url(self) -> str:
        """How a user writes it."""
        return f"s3://{self.name}/{self.prefix}" if self.prefix else f"s3://{self.name}"

    def listing(self, below: str = "") -> Iterator[Found]:
        """All objects, by key, a page of them held at a time. A key that ends in `/` is a folder's, and no object."""
        start = self._key(below)
        start = f"{start}/" if start else ""
        skipped = len(self.prefix) + 1 if self.prefix else 0
        more: dict[str, object] = {}
        while True:
            page = s3.asked(
                "list_objects_v2", self.url, {"Bucket": self.name, "Prefix": start, "MaxKeys": _PAGE, **more}
            )
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    yield Found(item["Key"][skipped:], item["Size"], etag=_bare(item["ETag"]))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def stat(self, path: str) -> Found | None:
        """One object, or None."""
        return self._head(path)[0]

    def read(self, path: str) -> bytes:
        """All bytes of a small object. Raises StoreError where there is none."""
        with tempfile.SpooledTemporaryFile(1 << 24) as file:
            s3.within(partial(self._streamed, path, file, ""), path)
            file.seek(0)
            return file.read()

    @contextmanager
    def fetched(self, found: Found) -> Iterator[Path]:
        """A copy of an object, of the same name. Raises StoreError where the object has changed since it was found."""
        folder = Path(tempfile.mkdtemp(prefix=f"{_MINE}{os.getpid()}-"))
        try:
            path = folder / (PurePosixPath(found.path).name or "object")
            with path.open("w+b") as file:
                try:
                    s3.within(partial(self._streamed, found.path, file, found.etag), found.path)
                except s3.UnmetError as error:
                    raise StoreError(f"{found.path}: was changed while it was worked on; run again") from error
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, path: str, data: bytes | Path, *, replacing: str = "") -> Found:
        """Store an object with one PUT, if none is there; or if the one to be replaced is.

        A PUT whose reply was lost finds its own object there, and knows it by size and SHA-256. Raises ConflictError
        where another one stands there, or none where one should.
        """
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        if size > _MAX_PUT_NBYTES:
            raise StoreError(f"{path}: has {size:,} bytes, one PUT takes {_MAX_PUT_NBYTES:,}; name a folder as TARGET")
        digest = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else file_sha256(data)
        condition = {"IfMatch": f'"{replacing}"'} if replacing else {"IfNoneMatch": "*"}
        described = {"Metadata": {_SHA256: digest}, "ContentType": content_type(path)}
        try:
            answer = s3.asked("put_object", path, {**self._object(path), **condition, **described}, data)
        except (s3.UnmetError, s3.MissingError) as error:
            found, theirs = self._head(path)
            if found is not None and (found.size, theirs) == (size, digest):
                return found
            raise ConflictError(path, found, ours=bool(theirs)) from error
        return Found(path, size, etag=_bare(answer["ETag"]))

    def remove(self, path: str) -> None:
        """Have there be no such object."""
        s3.asked("delete_object", path, self._object(path))

    def age_s(self, path: str) -> float | None:
        """Seconds since an object was written, by the store's own clock; None where there is none."""
        try:
            answer = s3.asked("head_object", path, self._object(path))
        except s3.MissingError:
            return None
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return float((now - answer["LastModified"]).total_seconds())

    def check(self) -> None:
        """Raise JobError where the bucket cannot be listed: before any work, not after an hour of it."""
        sweep_copies()
        try:
            s3.asked("list_objects_v2", self.url, {"Bucket": self.name, "Prefix": self.prefix, "MaxKeys": 1})
        except StoreError as error:
            raise JobError(str(error)) from error

    def check_conditions(self, path: str) -> None:
        """Raise JobError where the store stores an object in spite of its condition. path: one that may be damaged."""
        for header, condition in (("If-None-Match", {"IfNoneMatch": "*"}), ("If-Match", {"IfMatch": '"0"'})):
            try:
                s3.asked("put_object", path, {**self._object(path), **condition}, b"")
            except s3.UnmetError:
                continue
            raise JobError(f"{self.url}: its store does not heed {header}: runs could overwrite one another")

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix and path else self.prefix or path

    def _object(self, path: str) -> dict[str, object]:
        return {"Bucket": self.name, "Key": self._key(path)}

    def _head(self, path: str) -> tuple[Found | None, str]:
        """One object, or None; and the digest that it was written with."""
        try:
            answer = s3.asked("head_object", path, self._object(path))
        except s3.MissingError:
            return None, ""
        found = Found(path, answer["ContentLength"], etag=_bare(answer["ETag"]))
        return found, answer.get("Metadata", {}).get(_SHA256, "")

    async def _streamed(self, path: str, file: IO[bytes], etag: str) -> None:
        """An object's body into a file, which holds it whole, or CutError."""
        file.seek(0)
        file.truncate()
        condition = {"IfMatch": f'"{etag}"'} if etag else {}
        answer = await s3.call("get_object", **self._object(path), **condition)
        digest = hashlib.sha256()
        async with answer["Body"] as body:
            while piece := await body.read(_PIECE_NBYTES):
                digest.update(piece)
                file.write(piece)
        wanted = answer.get("Metadata", {}).get(_SHA256)
        if file.tell() != answer["ContentLength"] or (wanted and wanted != digest.hexdigest()):
            raise s3.CutError(f"{path}: its body came short or damaged")


def sweep_copies() -> int:
    """Remove copies of objects whose processes were killed while they had them; how many."""
    found = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_MINE}*"):
        number = folder.name.removeprefix(_MINE).partition("-")[0]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(folder, ignore_errors=True)
            found += 1
    return found


def content_type(path: str) -> str:
    """What an object says of itself, by the suffix of its name."""
    return _TYPES.get(PurePosixPath(path).suffix.lower(), "application/octet-stream")


def _bare(etag: str) -> str:
    return etag.strip('"')
