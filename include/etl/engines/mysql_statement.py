"""Prepared statements, whose results come in the binary protocol: numbers and dates as such, floats with all digits.

The server has less to do than for the text protocol, and so has the client. PyMySQL has no such statements of its own.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND, ER
from pymysql.protocol import FieldDescriptorPacket

from include.etl.engines.mysql_packets import RowPackets
from include.etl.engines.mysql_types import BINARY_CHARSET, UNSIGNED_FLAG, Column


class Statement:
    """One statement, parsed by the server; nothing has run yet. Close it before the connection's next query."""

    def __init__(self, connection: Any, sql: str) -> None:
        self._connection = connection
        connection._execute_command(COMMAND.COM_STMT_PREPARE, sql)
        self._id, columns, parameters = struct.unpack_from("<IHH", connection._read_packet().get_all_data(), 1)
        _columns(connection, parameters)
        self.columns = _columns(connection, columns)
        if parameters:
            self.close()
            raise err.ProgrammingError(ER.PARSE_ERROR, "the query holds a ? outside of quotes")

    def execute(self, block_bytes: int, block_rows: int) -> RowPackets:
        """Run it; `columns` are then those that the rows have, which may be less wide than was foreseen."""
        self._connection._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", self._id, 0, 1))
        count = self._connection._read_packet().read_length_encoded_integer()
        self.columns = _columns(self._connection, count)
        return RowPackets(self._connection, block_bytes, block_rows)

    def close(self) -> None:
        """Free what the server keeps of it; a lost connection keeps nothing."""
        with contextlib.suppress(err.Error):
            self._connection._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", self._id))


def _columns(connection: Any, count: int) -> list[Column]:
    """Descriptions of so many columns, which an EOF packet ends."""
    fields = [connection._read_packet(FieldDescriptorPacket) for _ in range(count)]
    if count:
        connection._read_packet()
    return [
        Column(f.name, f.type_code, f.length, f.scale, bool(f.flags & UNSIGNED_FLAG), f.charsetnr == BINARY_CHARSET)
        for f in fields
    ]
