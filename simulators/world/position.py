"""From degrees to the kilometres that fields count in."""

from __future__ import annotations

from math import cos, radians

from pydantic import Field

from ..yamlfile import Model
from .field import Place

_KM_PER_DEGREE = 111.2


class Position(Model):
    """Degrees (WGS 84)."""

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)

    def place(
        self, latitude: float, longitude: float, *, river_km: float = 0.0, depth_m: float = 0.0
    ) -> Place:
        """Where that is, counted from here: good to 1 % within some hundreds of km, away from the poles."""
        east = (longitude - self.longitude) * cos(radians(self.latitude)) * _KM_PER_DEGREE
        north = (latitude - self.latitude) * _KM_PER_DEGREE
        return Place(east, north, river_km, depth_m)
