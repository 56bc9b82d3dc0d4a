"""Backup, restore and factory reset of the state folder (docs/backup.md)."""
