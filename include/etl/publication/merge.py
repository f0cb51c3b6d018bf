"""`load: merge`: keeps one row per key, the current one, across all publications.

Of two rows with the same key the one with the larger cursor stays; no cursor counts as the smallest. Of equals the one
that was read later stays, but for what was merely read again: by a lookback, or because it has no cursor value. A row
that is marked as deleted gives way to one that was read later, whatever the cursors say. Rows whose key is incomplete
cannot be told apart by it: of them each version is kept once, as `append` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from include.etl.duck import count, parquet, quote, text
from include.etl.handover import DELETED_AT
from include.etl.publication import incomplete
from include.etl.publication.added import AddedRows
from include.etl.publication.files import cursor_text
from include.etl.publication.kept import keep, replaced
from include.etl.publication.keys import CURSOR, FILE, GONE, READ, Keys, one_format
from include.etl.publication.rows import Change, NewRows, PublishedRows, moment, order, was_extracted
from include.etl.records.manifest import Manifest, PublishedFile

WINS, MINE = "__wins", "__mine"
"""Columns of `met` beside those of `Keys`: whether the new row replaces the published one, and the new row's cursor."""


@dataclass
class Merge:
    """The new rows against what is published, their own window's earlier publication included."""

    rows: PublishedRows
    new: NewRows
    standing: Sequence[Manifest]
    added: AddedRows
    scratch: Path

    def settle(self, result: Path) -> Path:
        """The interim file, or a copy less the rows that are published in a newer version.

        Rows of this window's earlier publication that were not read again are added: what moved to a later window is
        not lost before that has been read. What was read again and left out or set aside goes.
        """
        if self.new.keep and self.new.window.mode == "full":
            keep(self.rows, self.new, replaced(self.new, self.standing), self.added)
        staying = [manifest for manifest in self.standing if self._stays(manifest)]
        if not staying:
            return self.new.interim
        self._meet(staying)
        for manifest in filter(self._is_own, staying):
            self._keep(manifest)
        again = self._incomplete_before(staying)
        if not again and not count(self.rows.connection, f"met WHERE NOT {WINS}"):
            return self.new.interim
        return self._without_outdated(result, again or "false")

    def _incomplete_before(self, staying: Sequence[Manifest]) -> str | None:
        """A condition: the row has a NULL in its key, is read again, and stands in another publication."""
        start = self.new.window.start
        if not self.new.cursor or start is None:
            return None
        others = (manifest for manifest in staying if not self._is_own(manifest))
        low = cursor_text(self.new.value(self.new.window.read_from)) or ""
        files = (
            (manifest, file)
            for manifest in others
            for file in one_format(manifest)
            if file.cursor_missing or str(file.cursor_max or "") >= low
        )
        return incomplete.published_before(self.rows, self.new, files, self.new.before(start))

    def changes(self, interim: Path, staging: Path) -> list[Change]:  # noqa: ARG002 - also those left out count
        """What becomes of other publications' files; rewritten ones lie below `staging`, under their own names."""
        others = [manifest for manifest in self.standing if not self._is_own(manifest)]
        gone = [Change(m, file, None) for m in others if not self._stays(m) for file in m.files]
        if self.new.window.mode == "full":
            touched = [(m, file) for m in others if self._stays(m) for file in m.files]
        else:
            touched = self._touched() if others else []
        changed = [self._change(manifest, file, staging) for manifest, file in touched]
        return gone + [change for change in changed if change is not None]

    def _is_own(self, manifest: Manifest) -> bool:
        return manifest.window.name == self.new.window.name

    def _stays(self, manifest: Manifest) -> bool:
        """Whether rows may stay: a full run replaces all that had been published when it began to read."""
        return self.new.window.mode != "full" or manifest.published_at > self.new.read_at

    def _meet(self, staying: Sequence[Manifest]) -> None:
        """Find the published rows that have the key of a new one: the table `met`."""
        connection, new = self.rows.connection, self.new
        names = ", ".join(quote(name) for name in new.key)
        cursor = quote(new.cursor) if new.cursor else "NULL"
        connection.execute(
            f"CREATE TEMP TABLE fresh AS SELECT {names}, {cursor} AS {CURSOR} FROM {parquet([new.interim])}"
        )
        for manifest in staying:
            self.rows.check(manifest, new)
        self.keys = Keys(self.rows, new, self.scratch)
        found = self.keys.of(staying)
        own = [number for number, (manifest, _) in enumerate(self.keys.files) if self._is_own(manifest)]
        is_own = f"found.{FILE} IN ({', '.join(map(str, own))})" if own else "false"
        wins = self._wins(f"found.{CURSOR}", f"found.{READ}", f"found.{GONE}", is_own)
        connection.execute(
            f"CREATE TEMP TABLE met AS SELECT found.*, fresh.{CURSOR} AS {MINE}, {wins} AS {WINS} "
            f"FROM {found} AS found JOIN fresh ON {self._related('found', f'found.{CURSOR}', is_own)}"
        )

    def _without_outdated(self, result: Path, again: str) -> Path:
        cursor = f"mine.{quote(self.new.cursor)}" if self.new.cursor else "NULL"
        outdated = (
            f"SELECT 1 FROM met WHERE {self.new.same(self.new.key, 'mine', 'met')} "
            f"AND {cursor} IS NOT DISTINCT FROM met.{MINE} AND NOT {WINS}"
        )
        interim = f"{parquet([self.new.interim], numbered=True)} AS mine"
        stays = f"NOT EXISTS ({outdated}) AND NOT ({again})"
        kept = f"SELECT * EXCLUDE (file_row_number) FROM {interim} WHERE {stays}"
        sorting = order(self.new.source.output.partition_by, self.new.key, self.new.cursor)
        options = "FORMAT parquet, COMPRESSION zstd"
        self.rows.connection.execute(f"COPY ({kept}{sorting}) TO {text(str(result))} ({options})")
        return result

    def _keep(self, manifest: Manifest) -> None:
        left_out = (
            f"({was_extracted(self.rows.connection, self.new)} "
            f"AND NOT EXISTS (SELECT 1 FROM fresh WHERE {self.new.same(self.new.key, 'other', 'fresh')}))"
        )
        for file in one_format(manifest):
            self.rows.register(manifest, file)
            gone = f"{self._gone(file, own=True)} OR {left_out}"
            self.added.add(manifest, f"other WHERE NOT coalesce({gone}, false)")

    def _touched(self) -> list[tuple[Manifest, PublishedFile]]:
        """The files, in all formats, that lose a row."""
        numbers = self.rows.connection.sql(f"SELECT DISTINCT {FILE} FROM met WHERE {WINS} ORDER BY {FILE}").fetchall()
        found = [self.keys.files[number] for (number,) in numbers]
        found = [(manifest, file) for manifest, file in found if not self._is_own(manifest)]
        return [(m, file) for m, one in found for file in m.files if file.partition == one.partition]

    def _change(self, manifest: Manifest, file: PublishedFile, staging: Path) -> Change | None:
        self.rows.register(manifest, file)
        return self.rows.without(manifest, file, self._gone(file, own=False), staging)

    def _gone(self, file: PublishedFile, *, own: bool) -> str:
        """Whether a row of the table `other` gives way."""
        cursor = f"other.{quote(self.new.cursor)}" if self.new.cursor else "NULL"
        marked = f"other.{DELETED_AT}" if file.deleted else "NULL::TIMESTAMPTZ"
        wins = self._wins(cursor, "other._extracted_at", marked, str(own))
        replaced = f"EXISTS (SELECT 1 FROM fresh WHERE {self._related('other', cursor, str(own))} AND {wins})"
        if self.new.window.mode != "full":
            return replaced
        return f"({replaced} OR coalesce({marked}, other._extracted_at) <= {moment(self.new.read_at)})"

    def _related(self, row: str, cursor: str, own: str) -> str:
        """Whether a published row and a row of `fresh` are the same: no incomplete key tells it of those read again."""
        complete = " AND ".join(f"{row}.{quote(name)} IS NOT NULL" for name in self.new.key)
        same_key, version = self.new.same(self.new.key, row, "fresh"), f"{cursor} IS NOT DISTINCT FROM fresh.{CURSOR}"
        return f"{same_key} AND (({complete}) OR ({version} AND NOT {self._again(own)}))"

    def _wins(self, cursor: str, read: str, marked: str, own: str) -> str:
        """Whether a row of `fresh` replaces a published one with the same key."""
        later, again = moment(self.new.read_at), self._again(own)
        return (
            f"CASE WHEN {marked} IS NOT NULL THEN {marked} <= {later} "
            f"WHEN {cursor} IS NOT DISTINCT FROM fresh.{CURSOR} THEN {read} <= {later} AND NOT {again} "
            f"WHEN {cursor} IS NULL THEN true WHEN fresh.{CURSOR} IS NULL THEN false "
            f"ELSE fresh.{CURSOR} > {cursor} END"
        )

    def _again(self, own: str) -> str:
        """Whether a row of `fresh` was merely read again, and so stands in other publications."""
        start = self.new.window.start
        if not self.new.cursor or start is None:
            return "false"
        return f"(NOT {own} AND coalesce(fresh.{CURSOR} < {self.new.bound(start)}, true))"
