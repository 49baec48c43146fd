"""A manifest as a catalog's source: a CSV, JSON Lines or Parquet file of ids and where they lie."""

from __future__ import annotations

import csv
import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pipelines.errors import JobError
from pipelines.listing import Listed, Listing, folder_or_pattern, objects
from pipelines.naming import with_suffix_of
from pipelines.place import Folder, Place, spot_of
from refine.preset import setting_value

_OWN = ("id", "uri", "priority")
_SIZES = ("scale", "long_side", "size")
_AT_ONCE, _ASKED = 512, 16
"""Rows that are looked up together; objects that are asked for at the same time."""
Row = Mapping[str, Any]


def listing(source: str | os.PathLike[str]) -> Listing:
    """The images that SOURCE names: a folder, a pattern, a manifest. Raises JobError where it is none of these."""
    text = os.fspath(source)
    read = _READERS.get(Path(text).suffix.lower())
    if read and Path(text).is_file():
        return Inventory(text, read)
    return objects(text) if "://" in text else folder_or_pattern(text)


@dataclass(slots=True)
class Inventory:
    """The images of a manifest."""

    file: str
    """Its path."""
    read: Callable[[Path], Iterator[tuple[int, Row]]]
    """Gives its rows, each with its number in the file."""
    skipped: int = 0
    """Always 0: what a manifest names is meant."""
    absent: Sequence[str] = ()
    """Always empty: a manifest names no folders."""
    target: str = "\0"
    """Where results go, with its slash."""
    known: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Options that were met, as they are in the columns of options."""

    @property
    def remedy(self) -> str:
        """What is to be done where its ids cannot be names of results."""
        return f"change these ids in {Path(self.file).name}"

    @property
    def root(self) -> str:
        """The folder of the manifest: what its paths are below."""
        return str(Path(self.file).parent)

    def check_apart(self, target: Place) -> None:
        """Note TARGET: a row that lies in it is refused when it is met."""
        if not isinstance(target, Folder):
            self.target = f"{target.url}/"
            return
        if target.path.exists() and not target.path.is_dir():
            raise JobError(f"TARGET {target.path} is a file; name a folder")
        self.target = os.path.abspath(target.path) + os.sep  # noqa: PTH100  resolve() would ask the disk for every row

    def listed(self) -> Iterator[Listed]:
        """The images in the manifest's order. Raises JobError, with the row, where it is not one of ids and uris."""
        self.known.clear()
        rows = self.read(Path(self.file))
        with ThreadPoolExecutor(_ASKED) as pool:
            while some := list(islice(rows, _AT_ONCE)):
                # A bucket is asked for many objects at a time; a disk is as quick by one.
                afar = any("://" in str(row.get("uri")) for _, row in some)
                yield from (pool.map if afar else map)(self._numbered, some)

    def _numbered(self, numbered: tuple[int, Row]) -> Listed:
        number, row = numbered
        file = Path(self.file)
        where = f"{file.name}, {'row' if file.suffix.lower() == '.parquet' else 'line'} {number}"
        try:
            found = self._listed(row)
        except ValueError as error:  # of a path with a zero byte, too
            raise JobError(f"{where}: {error}") from error
        return replace(found, where=where) if found.options else found

    def _listed(self, row: Row) -> Listed:
        name, uri = row["id"], row["uri"]
        if not uri:
            raise JobError("has no uri")
        priority = _priority(row.get("priority") or 0)
        options = self._options(row)
        place = str(uri)
        place = place.removeprefix("file://")
        path = with_suffix_of(str(name or ""), place)
        if "://" in place:
            return self._object(path, place, priority, options)
        absolute = os.path.abspath(os.path.join(self.root, place))  # noqa: PTH100, PTH118  see above
        if absolute.startswith(self.target):
            raise JobError(f"{place} lies in TARGET, whose files are results; name another TARGET")
        try:
            status = os.stat(absolute)  # noqa: PTH116  see above
        except OSError:
            return Listed(path, -1, 0, uri=absolute, priority=priority, options=options)
        return Listed(path, status.st_size, status.st_mtime_ns, uri=absolute, priority=priority, options=options)

    def _object(self, path: str, uri: str, priority: int, options: str) -> Listed:
        spot = spot_of(uri)
        if uri.startswith(self.target):
            raise JobError(f"{uri} lies in TARGET, whose objects are results; name another TARGET")
        found = spot.place.stat(spot.path)
        if found is None:
            return Listed(path, -1, 0, uri=uri, priority=priority, options=options)
        return Listed(path, found.size, found.mtime_ns, found.etag, uri, priority, options)

    def _options(self, row: Row) -> str:
        """The options of a row as JSON. Raises JobError for a column that is none."""
        given = {name: value for name, value in row.items() if name not in _OWN and value not in (None, "")}
        if not given:
            return ""
        if odd := [name for name in given if name not in _SIZES and "." not in name]:
            raise JobError(
                f"column {odd[0]!r} is none of {', '.join((*_OWN, *_SIZES))} and no setting such as sharpen.amount; "
                "leave it out"
            )
        seen = tuple(f"{name}={value}" for name, value in given.items())
        if seen not in self.known:
            typed = {name: setting_value(v) if isinstance(v, str) else v for name, v in given.items()}
            self.known[seen] = json.dumps(typed, sort_keys=True)
        return self.known[seen]


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        _check_columns(path, reader.fieldnames or [])
        try:
            for row in reader:
                if None in row:
                    raise JobError(f"{path.name}, line {reader.line_num}: has more cells than there are columns")
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise JobError(f"{path.name}, line {reader.line_num + 1}: {error}; a manifest is CSV in UTF-8") from error


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise JobError(f"{path.name}, line {number}: is no JSON: {error}; write one object a line") from error
            if not isinstance(row, dict):
                raise JobError(f'{path.name}, line {number}: is no object; write {{"id": ..., "uri": ...}}')
            _check_columns(path, list(row), number)
            yield number, row


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        # Here and not above, for most who use refine have no need of it.
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        msg = f"{path.name}: reading Parquet needs pyarrow; install it with: pip install 'refine-imaging[parquet]'"
        raise JobError(msg) from error
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=4096))
            yield from enumerate(chain.from_iterable(batches), 1)
    except (OSError, ValueError) as error:
        if isinstance(error, JobError):
            raise
        raise JobError(f"{path.name}: is no Parquet file: {str(error).splitlines()[0]}") from error


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, Row]]]] = {
    ".csv": _csv_rows,
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".parquet": _parquet_rows,
}
"""How manifests are read, by their suffix."""


def _check_columns(path: Path, columns: Sequence[str], number: int = 1) -> None:
    if lacking := [name for name in ("id", "uri") if name not in columns]:
        found = ", ".join(map(str, columns)) or "none"
        raise JobError(f"{path.name}, line {number}: a manifest has columns id and uri, no {lacking[0]} in: {found}")


def _priority(given: Any) -> int:  # noqa: ANN401  a cell
    """A row's priority. Raises JobError where it is none."""
    try:
        return int(given)
    except (ValueError, TypeError, OverflowError) as error:
        raise JobError(
            f"a priority is a whole number, got {given!r}; write 0, or more for what is to come sooner"
        ) from error
