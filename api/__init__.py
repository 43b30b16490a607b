"""The HTTP door: keys, roles, routes under /api/v1, live stream, the web page."""
