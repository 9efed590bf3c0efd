"""The rows of the table, each measured against the plain way in the same run."""
