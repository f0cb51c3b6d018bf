"""Every error this system raises on purpose, grouped by what to do next.

    ExtractionError
    ├── ConfigurationError   fix the YAML, the SQL, the suite, the connection or the parameters
    │   └── CheckpointError  repair or restore the checkpoint
    ├── TransientError       nothing to fix: try again (the only group that Airflow retries)
    │   └── WriterTooOld     the source's administrator ends the session that is named
    ├── DataError            look at the data
    │   ├── SchemaChanged    columns differ from those published before; nothing was published
    │   └── ValidationFailed a critical expectation was not met; nothing was published
    └── StorageError         look at the disk or the object store

A message names the source, the key, the value received and the values allowed. It never carries row data
or credentials: messages end up in logs, in the metadata database and in alerts.
"""

from __future__ import annotations


class ExtractionError(Exception):
    """Base of all errors raised on purpose."""


class ConfigurationError(ExtractionError):
    """Something that a person wrote is wrong; trying again will not help."""


class CheckpointError(ConfigurationError):
    """The checkpoint cannot be used as it stands; nothing is guessed."""


class TransientError(ExtractionError):
    """The source or the network was not available; the same call may work later."""


class WriterTooOld(TransientError):
    """A transaction of the source has been open for so long that nothing new can be read safely until it ends."""


class DataError(ExtractionError):
    """The data is not what was declared."""


class SchemaChanged(DataError):
    """The columns are not those that were published before, in a way that `schema_changes` does not allow."""


class ValidationFailed(DataError):
    """At least one critical expectation failed; the run stops before publishing."""


class StorageError(ExtractionError):
    """Files could not be read or written."""
