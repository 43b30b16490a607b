"""The schema's history: numbered SQL files, run forward only by Alembic."""
