"""Sources, SQL, expectations and the `etl` package: all that a deployment edits or runs."""
