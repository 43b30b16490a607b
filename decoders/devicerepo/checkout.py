"""Tells which repository a folder is a checkout of."""

from __future__ import annotations

from pathlib import Path

from telemetry.errors import UsageError

from .chirpstack import ChirpstackCheckout
from .model import Checkout
from .ttn import TtnCheckout


def find_checkout(folder: Path) -> Checkout | None:
    """The checkout that `folder` is, or None.

    `folder` may be the checkout itself, its ``vendor`` or ``vendors`` folder, or one vendor's folder in that;
    the last limits it to this vendor.
    """
    folder = folder.resolve()
    for root, vendor in ((folder, None), (folder.parent, None), (folder.parent.parent, folder.name)):
        if root != folder and folder.relative_to(root).parts[0] not in ("vendor", "vendors"):
            continue
        if (root / "vendor" / "index.yaml").is_file():
            return TtnCheckout(root, vendor)
        if any((root / "vendors").glob("*/vendor.toml")):
            return ChirpstackCheckout(root, vendor)
    return None


def open_checkout(folder: Path) -> Checkout:
    """As `find_checkout`.

    Raises:
        UsageError: it is no checkout; says what is looked for.
    """
    if (found := find_checkout(folder)) is None:
        raise UsageError(
            f"{folder} is no checkout of a device repository: it has neither vendor/index.yaml (The Things"
            " Network's) nor vendors/*/vendor.toml (ChirpStack's)"
        )
    return found
