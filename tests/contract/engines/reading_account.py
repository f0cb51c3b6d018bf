"""A plain reading account of PostgreSQL: it may log in, read what it is granted, and see other sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.servers import DatabaseServer

SCHEMA = "ward"


@contextmanager
def plain_reader(server: DatabaseServer, name: str = "plain") -> Iterator[DatabaseServer]:
    """The server as that account logs in to it, with an empty schema `ward` that is its default one."""
    server.execute(f"drop schema if exists {SCHEMA} cascade")
    server.execute(f"drop role if exists {name}")
    server.execute(f"create role {name} login password 'plain-s3cret'")
    server.execute(f"grant pg_read_all_stats to {name}")
    server.execute(f"create schema {SCHEMA}")
    server.execute(f"grant usage on schema {SCHEMA} to {name}")
    server.execute(f"alter default privileges in schema {SCHEMA} grant select on tables to {name}")
    server.execute(f"alter role {name} set search_path = {SCHEMA}")
    try:
        yield replace(server, user=name, password="plain-s3cret", process=None)
    finally:
        server.execute(f"drop schema if exists {SCHEMA} cascade")
        server.execute(f"drop owned by {name}")
        server.execute(f"drop role {name}")
