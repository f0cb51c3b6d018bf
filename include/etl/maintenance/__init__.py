"""Retention, leftovers and backups: what may go is found first, and looked at again when it goes."""
