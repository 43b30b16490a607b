"""PostgreSQL, in three editions: pool, migrations, the one write path, lanes and look-ups."""
