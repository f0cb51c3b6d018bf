"""Published files: how they are written, read back, and kept free of rows that are published twice."""
