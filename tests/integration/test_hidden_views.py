"""A source over a view that the account may read and not look into, and one whose server has an SQL mode of its own."""

from __future__ import annotations

import pytest

from include.etl.errors import ConfigurationError
from tests.integration.conftest import Project
from tests.integration.test_swapped_tables import SHAPE, SOURCE, server
from tests.servers import DatabaseServer

__all__ = ["server"]
QUERY = "select id, updated_at from visits where {{ window('updated_at') }} and "


@pytest.mark.parametrize("cure", ["lookback", "full runs"])
def test_what_it_reads_is_neither_seen_nor_verified(server: DatabaseServer, project: Project, cure: str) -> None:
    """No full run and no lookback makes sure of rows that have no snapshot."""
    server.execute(f"create table below {SHAPE} engine = myisam")
    server.execute("insert into below values (1, 'x', '2024-01-02 08:00:00')")
    server.execute("create view visits as select * from below")
    server.execute("revoke show view on online.* from night")
    text = SOURCE.replace(', full: "0 3 * * 0"', "").replace("timezone: UTC", "timezone: UTC, lookback: 1h")
    project.configure(SOURCE if cure == "full runs" else text)
    result = project.run()
    assert (len(project.rows("id")), result.publication.completeness.verified) == (1, False)
    bound = result.manifest["bound"]
    assert (bound["grade"], bound["degraded"]) == ("not proven", True)  # nor are values looked for that no window holds
    assert (bound["lag_s"], bool(bound["unseen"])) == (600.0, True)
    told = result.manifest["phases"][0]["conditions"]["degraded guarantee"]
    assert "what view online.visits reads is not shown to this account" in told


def test_a_query_in_the_server_s_own_mode_is_refused_before_anything_is_written(
    server: DatabaseServer, project: Project
) -> None:
    server.execute(f"create table visits {SHAPE}")
    server.execute("insert into visits values (1, 'hello', '2024-01-02 08:00:00')")
    (before,) = server.execute("select @@global.sql_mode")[0]
    project.configure(SOURCE.replace("table: visits", "query: visits.sql"))
    query = project.folder / "sql" / "visits.sql"
    query.parent.mkdir(exist_ok=True)
    server.execute("set global sql_mode = 'ANSI_QUOTES'")
    try:
        query.write_text(QUERY + "\"note\" = 'hello'")
        with pytest.raises(ConfigurationError, match=r"visits.*with ANSI_QUOTES, .*write `\.\.\.` for a name"):
            project.run()
        assert project.files() == {}
        query.write_text(QUERY + "`note` = 'hello'")
        assert project.run().publication.completeness.verified
        assert len(project.rows("id")) == 1
    finally:
        server.execute(f"set global sql_mode = '{before}'")
