"""`load: append`: keeps each version of a row (key and cursor value) published once, however windows overlap.

- Rows that the lookback read again and that stand in another publication are left out of the new one.
- Rows of the window itself that stand in another publication (a backfill or range over extracted days) are taken out
  of that one: the copy that was read last is the one that stays.
- Rows of the window's own earlier publication that were not read again stay: they have moved to a later window, or
  have left the source. Without a key a row that moved cannot be told from one that was changed in place: none stays.
- A full extraction replaces all that had been extracted when it began to read. Rows that another run has extracted
  since then stay.
- A row that is marked as deleted goes when its key is read again; a row that was read before its key was found
  deleted is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from include.etl.duck import count, parquet, quote, text
from include.etl.handover import DELETED_AT, Position
from include.etl.publication import incomplete
from include.etl.publication.added import AddedRows
from include.etl.publication.files import cursor_text
from include.etl.publication.kept import keep, replaced
from include.etl.publication.keys import FILE, GONE, Keys, one_format
from include.etl.publication.rows import Change, NewRows, PublishedRows, moment, order
from include.etl.records.manifest import Manifest, PublishedFile


@dataclass
class Overlap:
    """The new rows against what is published, their own window's earlier publication included."""

    rows: PublishedRows
    new: NewRows
    standing: Sequence[Manifest]
    added: AddedRows

    def __post_init__(self) -> None:
        """Tell the window's own earlier publication from the others."""
        name = self.new.window.name
        self.own = [manifest for manifest in self.standing if manifest.window.name == name]
        self.others = [manifest for manifest in self.standing if manifest.window.name != name]

    def settle(self, result: Path) -> Path:
        """The interim file, or a copy less the rows that stand in another publication or were found deleted since."""
        if self.new.keep or (self.new.key and self.new.window.mode != "full"):
            keep(self.rows, self.new, replaced(self.new, self.standing), self.added)
        again = (self._published_before(), self._incomplete_before())
        found = [one for one in (*again, self._marked_since(result.parent / "marked")) if one]
        if not found:
            return self.new.interim
        interim = f"{parquet([self.new.interim], numbered=True)} AS mine"
        kept = f"SELECT * EXCLUDE (file_row_number) FROM {interim} WHERE NOT ({' OR '.join(found)})"
        sorting = order(self.new.source.output.partition_by, self.new.key, self.new.cursor)
        options = "FORMAT parquet, COMPRESSION zstd"
        self.rows.connection.execute(f"COPY ({kept}{sorting}) TO {text(str(result))} ({options})")
        return result

    def _published_before(self) -> str | None:
        """A condition: the row lies before the window or has no cursor value, and stands in another publication."""
        new, window, connection = self.new, self.new.window, self.rows.connection
        if not new.cursor or window.start is None:
            return None
        missing = count(connection, f"{parquet([new.interim])} WHERE {quote(new.cursor)} IS NULL") > 0
        if window.start == window.read_from and not missing:
            return None
        before = new.before(window.start)
        version = ", ".join(quote(name) for name in new.version)
        # Of the new rows' types, to which those of older publications widen.
        connection.execute(f"CREATE TEMP TABLE published AS SELECT {version} FROM {parquet([new.interim])} LIMIT 0")
        for manifest, file in self._touching(window.read_from, window.start, missing):
            self.rows.check(manifest, new)
            self.rows.register(manifest, file)
            live = f"AND {DELETED_AT} IS NULL" if file.deleted else ""
            connection.execute(f"INSERT INTO published SELECT {version} FROM other WHERE {before} {live}")
        again = f"SELECT 1 FROM published WHERE {new.same(new.version, 'mine', 'published')}"
        return f"({before} AND NOT {new.incomplete('mine')} AND EXISTS ({again}))"

    def _incomplete_before(self) -> str | None:
        """The same of rows with a NULL in the key."""
        window = self.new.window
        if not self.new.cursor or window.start is None:
            return None
        touching = self._touching(window.read_from, window.start, missing=True)
        files = ((manifest, file) for manifest, file in touching if file in one_format(manifest))
        return incomplete.published_before(self.rows, self.new, files, self.new.before(window.start))

    def _marked_since(self, scratch: Path) -> str | None:
        """A condition: a full run that began to read after this one has found the row's key deleted."""
        marked = [manifest for manifest in self.others if any(file.deleted for file in manifest.files)]
        if self.new.window.mode == "full" or not marked:
            return None
        for manifest in marked:
            self.rows.check(manifest, self.new)
        relation = Keys(self.rows, self.new, scratch).of(marked, marked_only=True)
        later = f"SELECT 1 FROM {relation} AS known WHERE {GONE} > {moment(self.new.read_at)}"
        return f"EXISTS ({later} AND {self.new.same(self.new.key, 'mine', 'known')})"

    def changes(self, interim: Path, staging: Path) -> list[Change]:
        """What becomes of other publications' files; rewritten ones lie below `staging`, under their own names."""
        window = self.new.window
        if window.mode == "full":
            touched = [(manifest, file) for manifest in self.others for file in manifest.files]
        else:
            touched = list(self._touching(window.start, window.end, missing=window.start is None))
            paths = {file.path for _, file in touched}
            touched += [one for one in self._with_marked(interim, staging) if one[1].path not in paths]
        self.rows.connection.execute(f"CREATE OR REPLACE TEMP VIEW fresh AS SELECT * FROM {parquet([interim])}")
        found = (self._change(manifest, file, staging) for manifest, file in touched)
        return [change for change in found if change is not None]

    def _change(self, manifest: Manifest, file: PublishedFile, staging: Path) -> Change | None:
        new, full = self.new, self.new.window.mode == "full"
        if full and manifest.published_at <= new.read_at:
            return Change(manifest, file, None)
        if full and not self.rows.comparable(manifest, new):
            return None
        self.rows.check(manifest, new)
        self.rows.register(manifest, file)
        gone = f"EXISTS (SELECT 1 FROM fresh WHERE {new.same(new.version, 'other', 'fresh')})"
        read = f"coalesce({DELETED_AT}, _extracted_at)" if file.deleted else "_extracted_at"
        if full:
            gone = f"({gone} OR {read} <= {moment(new.read_at)})"
        elif new.window.start is not None and new.cursor:
            gone = f"({gone} AND other.{quote(new.cursor)} >= {new.bound(new.window.start)})"
        if file.deleted:
            back = f"EXISTS (SELECT 1 FROM fresh WHERE {new.same(new.key, 'other', 'fresh')})"
            gone = f"({gone} OR ({DELETED_AT} <= {moment(new.read_at)} AND {back}))"
        return self.rows.without(manifest, file, gone, staging)

    def _touching(
        self, start: Position | None, end: Position | None, missing: bool
    ) -> Iterator[tuple[Manifest, PublishedFile]]:
        """Files of others that may hold rows with a cursor value in [start, end), or, if asked for, without any."""
        low, high = cursor_text(self.new.value(start)), cursor_text(self.new.value(end))
        for manifest in self.others:
            for file in manifest.files:
                span = file.cursor_min is not None and (low is None or str(file.cursor_max) >= low)
                if (span and (high is None or str(file.cursor_min) < high)) or (missing and file.cursor_missing):
                    yield manifest, file

    def _with_marked(self, interim: Path, staging: Path) -> Iterator[tuple[Manifest, PublishedFile]]:
        """Files of others that hold a row that is marked as deleted and has a key of the new rows."""
        marked = [manifest for manifest in self.others if any(file.deleted for file in manifest.files)]
        for manifest in marked:
            self.rows.check(manifest, self.new)
        keys = Keys(self.rows, self.new, staging.parent / "keys")
        relation = keys.of(marked, marked_only=True)
        if relation is None:
            return
        known = f"SELECT 1 FROM {parquet([interim])} AS fresh WHERE {self.new.same(self.new.key, 'found', 'fresh')}"
        numbers = f"SELECT DISTINCT {FILE} FROM {relation} AS found WHERE EXISTS ({known}) ORDER BY {FILE}"
        for (number,) in self.rows.connection.sql(numbers).fetchall():
            manifest, found = keys.files[number]
            yield from ((manifest, file) for file in manifest.files if file.partition == found.partition)
