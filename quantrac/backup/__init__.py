"""All of an installation in one file, and back: docs/how-to/backup.md.

A backup is a ZIP file without compression of its own. It holds `database.dump.zst`, what pg_dump's custom
format says of one snapshot; `beside/…`, files that the database does not know; and, written last,
`manifest.json`, by which a restore is checked.
"""
