"""After a disaster: configuration, checkpoints and published data as they should be, proven against the source."""
