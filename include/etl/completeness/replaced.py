"""The link between publications: a row that is left out, or taken out of an older file, stands in another place.

Judged by what lies in the files before and after, not by the conditions with which publishing has chosen the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from include.etl import duck
from include.etl.duck import count, parquet, quote
from include.etl.errors import StorageError
from include.etl.handover import DELETED_AT
from include.etl.publication.files import cursor_text
from include.etl.publication.kept import replaced
from include.etl.publication.keys import one_format
from include.etl.publication.prepare import Prepared
from include.etl.publication.rows import Change, NewRows, PublishedRows, moment, same, was_extracted
from include.etl.records.manifest import Manifest, PublishedFile


def published_before(
    new: NewRows, prepared: Prepared, standing: Sequence[Manifest], folder: Path, staging: Path
) -> int:
    """How many of the new rows are left out because they are published, in this version or a newer one.

    Raises:
        StorageError: a row is left out, or taken out of an older file, that stands nowhere else.
    """
    with duck.session(new.source.memory_limit_mb, staging / ".scratch-replaced") as connection:
        connection.execute(f"CREATE TEMP VIEW result AS SELECT * FROM {parquet([prepared.interim])}")
        proof = _Proof(PublishedRows(connection, new.source, folder), new, standing)
        for change in prepared.changes:
            if not proof.all_replaced(change.manifest):
                proof.check_taken_out(change, staging / "rewritten")
        proof.check_not_read_again()
        return proof.left_out(prepared.settled)


@dataclass
class _Proof:
    """The view `result` has all rows of the new files; `other` is the published file that is being looked at."""

    rows: PublishedRows
    new: NewRows
    standing: Sequence[Manifest]

    def all_replaced(self, manifest: Manifest) -> bool:
        """Whether the publication goes as a whole: a full run has read everything anew."""
        return self.new.window.mode == "full" and manifest.published_at <= self.new.read_at

    def left_out(self, settled: Path) -> int:
        """Rows that were to be published, and are not since they stand elsewhere."""
        if settled == self.new.interim:
            return 0
        connection, missing = self.rows.connection, f"FROM {parquet([self.new.interim])} AS mine WHERE NOT EXISTS"
        there = f"SELECT 1 FROM {parquet([settled])} AS settled WHERE {same(self.new.version, 'mine', 'settled')}"
        complete = f"NOT {self.new.incomplete('mine')}"
        connection.execute(f"CREATE TEMP TABLE missing AS SELECT * {missing} ({there}) AND {complete}")
        incomplete = self._incomplete(parquet([self.new.interim]))
        connection.execute(f"CREATE TEMP TABLE incomplete AS {incomplete}")
        self._take_out(parquet([settled]))
        found = self._missing()
        self._forget("result", marked=self.new.source.deletes == "mark")
        for manifest, file in self._may_hold():
            if not self._missing():
                break
            self.rows.register(manifest, file)
            self._forget("other", marked=bool(file.deleted))
            if count(connection, "incomplete"):
                self._take_out("other")
        if lost := self._missing():
            raise self._lost(lost, "were left out as published before, and are not")
        return found

    def _missing(self) -> int:
        return count(self.rows.connection, "missing") + count(self.rows.connection, "incomplete")

    def _incomplete(self, rows: str) -> str:
        """Of rows with a NULL in the key all that the source gave."""
        given = ", ".join(quote(name) for name in self.new.given)
        return f"SELECT {given} FROM {rows} AS one WHERE {self.new.incomplete('one')}"

    def _take_out(self, rows: str) -> None:
        """Take the rows with a NULL in the key from those that are looked for, each for one that is equal."""
        left = f"SELECT * FROM incomplete EXCEPT ALL {self._incomplete(rows)}"
        self.rows.connection.execute(f"CREATE OR REPLACE TEMP TABLE incomplete AS {left}")

    def check_taken_out(self, change: Change, rewritten: Path) -> None:
        """Each row that a file of another publication has lost is among the new ones, or a newer version of it is."""
        connection, manifest = self.rows.connection, change.manifest
        columns = [*self.new.version, *([DELETED_AT] if change.old.deleted else [])]
        self.rows.register(manifest, change.old)
        wanted = ", ".join(quote(name) for name in (*columns, "_extracted_at"))
        connection.execute(f"CREATE OR REPLACE TEMP TABLE gone AS SELECT {wanted} FROM other")
        if change.new:
            PublishedRows(connection, self.new.source, rewritten).register(manifest, change.new)
            connection.execute(
                f"DELETE FROM gone WHERE EXISTS (SELECT 1 FROM other WHERE {same(columns, 'gone', 'other')})"
            )
        left = change.new.rows if change.new else 0
        unexplained = self._unexplained("gone", marked=bool(change.old.deleted))
        if lost := max(unexplained, change.old.rows - left - count(connection, "gone")):
            raise self._lost(lost, f"would vanish from {change.old.path}")

    def check_not_read_again(self) -> None:
        """Each row of the files that go, where rows are to stay, was read again, or stays."""
        if not self.new.key or (self.new.window.mode == "full" and not self.new.keep):
            return
        same_version = self.new.same(self.new.version, "other", "fresh")
        fresh = f"SELECT 1 FROM {parquet([self.new.interim])} AS fresh WHERE {same_version}"
        again = f"(EXISTS ({fresh}) OR {was_extracted(self.rows.connection, self.new)})"
        going = replaced(self.new, self.standing)
        for manifest, file in ((one, file) for one in going for file in one_format(one)):
            self.rows.register(manifest, file)
            self.rows.connection.execute(f"DELETE FROM other WHERE {again}")
            if lost := self._unexplained("other", marked=bool(file.deleted)):
                raise self._lost(lost, f"would vanish from {file.path}, which were not read again")

    def _unexplained(self, table: str, *, marked: bool) -> int:
        """Rows of the table that no row of the result stands for; a full run stands for all that was read before it."""
        back = [f"{table}.{DELETED_AT} IS NOT NULL"] if marked else []
        replaced = self._stands_for("result", table, *back)
        stays = f"{table} WHERE NOT EXISTS (SELECT 1 FROM result WHERE {replaced})"
        if self.new.window.mode == "full" and not self.new.keep:
            read = f"coalesce({DELETED_AT}, _extracted_at)" if marked else "_extracted_at"
            stays += f" AND {read} > {moment(self.new.read_at)}"
        return count(self.rows.connection, stays)

    def _forget(self, table: str, *, marked: bool) -> None:
        """Take those that the table holds from the missing rows; what is marked stands for rows read before only."""
        live = f"{table}.{DELETED_AT} IS NULL" if marked else "true"
        later = [f"{table}.{DELETED_AT} > {moment(self.new.read_at)}"] if marked else []
        stands = self._stands_for(table, "missing", *later, provided=f"{live} AND NOT {self._must_be_published()}")
        self.rows.connection.execute(f"DELETE FROM missing WHERE EXISTS (SELECT 1 FROM {table} WHERE {stands})")

    def _stands_for(self, row: str, other: str, *anyway: str, provided: str = "true") -> str:
        """Whether the first row is the second one's version (with `merge`, or a newer one), or has its key `anyway`.

        The key comes first and by itself, so that DuckDB can join by it.
        """
        if not self.new.key:
            return f"{self.new.same(self.new.version, row, other)} AND {provided}"
        cursor = quote(self.new.cursor) if self.new.cursor else None
        stands = f"{row}.{cursor} IS NOT DISTINCT FROM {other}.{cursor}" if cursor else "true"
        if cursor and self.new.source.load == "merge":
            complete = " AND ".join(f"{other}.{quote(name)} IS NOT NULL" for name in self.new.key)
            newer = f"coalesce({row}.{cursor} >= {other}.{cursor}, {other}.{cursor} IS NULL)"
            stands = f"({stands} OR ({complete} AND {newer}))"
        return f"{self.new.same(self.new.key, row, other)} AND ({' OR '.join((f'({stands} AND {provided})', *anyway))})"

    def _must_be_published(self) -> str:
        """With `append`, rows of the window itself are published here, wherever else they stand."""
        start = self.new.window.start
        if self.new.source.load == "merge":
            return "false"
        if start is None or not self.new.cursor:
            return "true"
        return f"coalesce(missing.{quote(self.new.cursor)} >= {self.new.bound(start)}, false)"

    def _may_hold(self) -> Iterator[tuple[Manifest, PublishedFile]]:
        """Files of others that may hold a row that was left out, the newest publication first."""
        low = cursor_text(self.new.value(self.new.window.read_from))
        if self.new.cursor and any(
            count(self.rows.connection, f"{table} WHERE {quote(self.new.cursor)} IS NULL")
            for table in ("missing", "incomplete")
        ):
            low = None  # with `merge` any cursor value is newer than none
        others = [one for one in self.standing if one.window.name != self.new.window.name]
        staying = [manifest for manifest in others if not self.all_replaced(manifest)]
        for manifest in sorted(staying, key=lambda one: one.published_at, reverse=True):
            for file in one_format(manifest):
                if low is None or file.cursor_missing or file.deleted or str(file.cursor_max or "") >= low:
                    yield manifest, file

    def _lost(self, rows: int, what: str) -> StorageError:
        return StorageError(
            f"source {self.new.source.source!r}: {rows} rows {what}; nothing was published and the checkpoint stays. "
            "Clear the run to do it again; if it fails the same way, this is a fault of the program"
        )
