"""From a message to committed rows: source → adapter → codec → normalise → batch → one transaction → ack."""
