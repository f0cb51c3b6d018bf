"""The audit's chain: several writers, crashes, and any single tampering."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.etl.errors import StorageError
from include.etl.records import audit, audit_check
from include.etl.storage import Storage


def lines(storage: Storage) -> list[dict[str, Any]]:
    return list(audit_check.entries(storage))


def fill(storage: Storage, count: int = 5) -> Path:
    for number in range(count):
        audit.record(storage, "test", f"source_{number}", 'says "why", \u00e9', who="nurse\n", facts={"n": number})
    (path,) = audit.months(storage.root / "audit")
    return path


def test_a_line_says_who_what_when_and_why(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    path = fill(storage)
    first, *_, last = lines(storage)
    assert (first["number"], first["previous"], first["who"], first["source"]) == (
        1,
        audit.BEGIN,
        "nurse\n",
        "source_0",
    )
    assert first["at"].endswith("+00:00")
    assert last["reason"] == 'says "why", é'
    checked = audit_check.check(storage)
    assert (checked.lines, checked.problems, checked.repairs) == (5, [], [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_environment_does_not_say_who_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody else")
    monkeypatch.setenv("SUDO_USER", "nurse")
    audit.record(Storage(tmp_path), "test", "visits")
    (line,) = lines(Storage(tmp_path))
    assert (line["who"], line["sudo_user"]) == (pwd.getpwuid(os.getuid()).pw_name, "nurse")


def _work(root: str) -> None:
    for _ in range(20):
        audit.record(Storage(Path(root)), "test", "visits", pid=os.getpid())


def test_several_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(str(tmp_path),)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    checked = audit_check.check(Storage(tmp_path))
    assert (checked.lines, checked.problems) == (80, [])
    assert len({line["pid"] for line in lines(Storage(tmp_path))}) == 4


def test_the_chain_goes_on_over_months(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(tmp_path)
    fill(storage, 2)
    (this,) = audit.months(tmp_path / "audit")
    earlier = this.with_name("2020-01.jsonl")
    this.rename(earlier)
    head = json.loads((tmp_path / "audit" / audit.HEAD).read_text())
    (tmp_path / "audit" / audit.HEAD).write_text(json.dumps(head | {"file": earlier.name}))
    audit.record(storage, "test", "next month")
    assert [path.name for path in audit.months(tmp_path / "audit")] == [earlier.name, this.name]
    assert audit_check.check(storage).problems == []
    earlier.unlink()
    assert (
        "numbers" in audit_check.check(storage).problems[0].what
        or "missing" in audit_check.check(storage).problems[0].what
    )


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_a_half_written_line_is_completed_and_a_line_says_so(tmp_path: Path, kept: int) -> None:
    """Whatever part of the last line a crash has left; -1: all but its end of line."""
    storage = Storage(tmp_path)
    path = fill(storage, 3)
    whole = path.read_bytes()
    *_, last = whole.splitlines(keepends=True)
    path.write_bytes(whole[: len(whole) - len(last)] + last[:kept])
    assert audit_check.check(storage).problems
    audit.record(storage, "test", "after the crash")
    checked = audit_check.check(storage)
    assert checked.problems == []
    assert path.read_bytes().startswith(whole)
    assert [line["source"] for line in lines(storage) if "source" in line][-2:] == ["source_2", "after the crash"]
    (repair,) = checked.repairs
    assert repair["number"] == 4


def test_a_disk_that_fills_up_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    storage = Storage(tmp_path)
    fill(storage, 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StorageError, match="No space left"):
            audit.record(storage, "test", "visits")
    audit.record(storage, "test", "visits")
    assert audit_check.check(storage).problems == []


def test_what_was_cut_off_is_not_healed_by_new_lines(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    path = fill(storage, 5)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    (problem,) = audit_check.check(storage).problems
    assert "numbers 4 up to 5 are missing at the end" in problem.what
    audit.record(storage, "test", "later")
    (problem,) = audit_check.check(storage).problems
    assert (problem.file, problem.line) == (path.name, 4)
    assert "number 4 up to 5 are missing" in problem.what


def test_a_missing_head_is_told_for_ever(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    fill(storage, 2)
    (tmp_path / "audit" / audit.HEAD).unlink()
    assert [problem.file for problem in audit_check.check(storage).problems] == [audit.HEAD]
    audit.record(storage, "test", "later")
    checked = audit_check.check(storage)
    (problem,) = checked.problems
    assert "head.json was missing" in problem.what
    assert problem.what == checked.repairs[0]["reason"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"number": 1}', b"\xff"])
def test_a_damaged_head_stops_no_run_but_is_a_problem(tmp_path: Path, content: bytes) -> None:
    storage = Storage(tmp_path)
    fill(storage, 2)
    (tmp_path / "audit" / audit.HEAD).write_bytes(content)
    assert audit.head_of(storage) is None
    assert audit_check.check(storage).problems
    audit.record(storage, "test", "later")
    assert [line["number"] for line in lines(storage)] == [1, 2, 3, 4]
    assert "damaged" in audit_check.check(storage).problems[0].what


def test_a_line_separator_within_a_line_ends_none(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    audit.record(storage, "test", "visits", "one\u2028two")
    (tmp_path / "audit" / audit.HEAD).unlink()
    audit.record(storage, "test", "later")
    assert [line["number"] for line in lines(storage)] == [1, 2, 3]


def test_an_audit_that_is_gone_is_told_where_something_was_published(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    assert audit_check.check(storage).problems == []
    (tmp_path / "processed" / "visits" / "_manifests").mkdir(parents=True)
    (tmp_path / "processed" / "visits" / "_manifests" / "full.json").write_text("{}")
    (problem,) = audit_check.check(storage).problems
    assert "there is no line" in problem.what
    audit.record(storage, "test", "later")
    (problem,) = audit_check.check(storage).problems
    assert (problem.line, "the audit was empty" in problem.what) == (1, True)


def test_a_chain_written_anew_does_not_agree_with_a_backup(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    fill(storage, 3)
    (tmp_path / "backups" / "20240101T000000Z").mkdir(parents=True)
    kept = {"audit": audit.head_of(storage)}
    (tmp_path / "backups" / "20240101T000000Z" / "backup.json").write_text(json.dumps(kept))
    assert audit_check.check(storage).problems == []
    shutil.rmtree(tmp_path / "audit")
    fill(storage, 4)
    (problem,) = audit_check.check(storage).problems
    assert problem.what.startswith("number 3 is not the line that it was")


@pytest.fixture(scope="module")
def untouched() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        fill(Storage(Path(folder)), 6)
        kept = Path(folder) / "runs" / "visits" / "a-run" / audit_check.KEPT
        kept.parent.mkdir(parents=True)
        kept.write_text(json.dumps(audit.head_of(Storage(Path(folder)))))
        yield Path(folder)


@st.composite
def tampering(draw: st.DrawFn) -> tuple[str, Any]:
    kind = draw(st.sampled_from(["remove", "byte", "swap", "double", "insert", "cut lines", "cut bytes", "append"]))
    place, other = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    return kind, (place, other, draw(st.integers(0, 255)), draw(st.floats(0, 1, exclude_max=True)))


def _tampered(before: bytes, kind: str, place: int, other: int, byte: int, share: float) -> bytes:
    found, at = before.splitlines(keepends=True), int(share * len(before))
    forged, _ = audit.chained(7, json.loads(found[-1])["hash"], {"action": "forged"})
    swapped = list(found)
    swapped[place], swapped[other] = found[other], found[place]
    return {
        "remove": b"".join(found[:place] + found[place + 1 :]),
        "swap": b"".join(swapped),
        "double": b"".join([*found[:other], found[place], *found[other:]]),
        "insert": b"".join([*found[:place], bytes([byte]) + b"\n", *found[place:]]),
        "cut lines": b"".join(found[:place]),
        "append": before + f"{forged}\n".encode(),
        "byte": before[:at] + bytes([byte]) + before[at + 1 :],
        "cut bytes": before[:at],
    }[kind]


@settings(max_examples=300)
@given(change=tampering(), head=st.sampled_from(["kept", "gone", "earlier"]), later=st.booleans())
def test_any_single_tampering_is_found(untouched: Path, change: tuple[str, Any], head: str, later: bool) -> None:
    """In the file; or with head.json removed or put back to an earlier line as well; also after a further line."""
    kind, (place, *rest) = change
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(untouched, folder, dirs_exist_ok=True)
        storage = Storage(Path(folder))
        (path,) = audit.months(storage.root / "audit")
        before = path.read_bytes()
        after = _tampered(before, kind, place, *rest)
        path.write_bytes(after)
        _tamper_with_head(path, before, head, place)
        if later:
            audit.record(storage, "test", "later")
        same = path.read_bytes().startswith(before) and kind != "double"  # not changed, or what was cut is completed
        if head == "kept" and same:
            assert kind == "append" or audit_check.check(storage).problems == []
            return
        problems = audit_check.check(storage).problems
        assert problems
        if kind == "remove" and place < 5:
            assert problems[0].line == place + 1
            assert f"number {place + 1} up to {place + 1} are missing" in problems[0].what


def _tamper_with_head(path: Path, before: bytes, head: str, place: int) -> None:
    if head == "gone":
        (path.parent / audit.HEAD).unlink()
    elif head == "earlier":
        place = min(place, 4)
        found = before.splitlines(keepends=True)[: place + 1]
        line, start = json.loads(found[-1]), sum(map(len, found[:-1]))
        content = {"file": path.name, "start": start, "number": place + 1, "hash": line["hash"]}
        (path.parent / audit.HEAD).write_text(json.dumps(content | {"line": found[-1][:-1].decode()}))
