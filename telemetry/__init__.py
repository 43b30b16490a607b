"""The shared vocabulary: model, metric catalogue, settings, errors, clock, observability and the store."""
