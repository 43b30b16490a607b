"""PostgreSQL and the MQTT broker as `quantrac up` runs them by itself, and the lock on the data folder.

    with DataDirLock(data_dir):
        postgres, broker = EmbeddedPostgres(data_dir), EmbeddedBroker(data_dir)
        dsn, info = postgres.start(), broker.start()
        …
        broker.stop(); postgres.stop()

Both servers live in sessions of their own: neither Ctrl-C nor a `kill -9` of the parent reaches them. One
that outlived its parent is found at the next start and adopted, so nothing it holds is lost.
"""

from quantrac.embedded.broker import BrokerInfo, EmbeddedBroker
from quantrac.embedded.errors import EmbeddedServerError
from quantrac.embedded.lock import DataDirLock
from quantrac.embedded.postgres import EmbeddedPostgres

__all__ = ["BrokerInfo", "DataDirLock", "EmbeddedBroker", "EmbeddedPostgres", "EmbeddedServerError"]
