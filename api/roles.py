"""Who may do what: each role may do all that the ones before it may, and `intake` stands beside them."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["viewer", "operator", "engineer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
KeyRole = Literal["viewer", "operator", "engineer", "admin", "intake"]
"""A key may also be a network server's: it hands over messages and sees nothing."""
KEY_ROLES: tuple[KeyRole, ...] = get_args(KeyRole)


def covers(role: KeyRole, needed: Role) -> bool:
    return role != "intake" and ROLES.index(role) >= ROLES.index(needed)
