"""One module a resource; each exports `router` with its full path, so metrics name routes as clients do."""

BASE = "/api/v1"
