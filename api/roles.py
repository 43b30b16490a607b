"""Who may do what: each role may do all that the ones before it may."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["viewer", "operator", "engineer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


def covers(role: Role, needed: Role) -> bool:
    return ROLES.index(role) >= ROLES.index(needed)
