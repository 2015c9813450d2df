"""Rows in files: which formats there are, how bytes are read, what reaches the disk."""
