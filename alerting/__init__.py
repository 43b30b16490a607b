"""Rules over readings, the alerts they raise, and telling those who must know."""
