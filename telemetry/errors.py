"""Everything Quantrac raises on purpose.

    QuantracError
    ├── SettingsError          a setting is wrong; names it and the cure (exit 2)
    ├── UsageError             a command or a file was used wrongly (exit 2)
    ├── StoreError
    │   ├── SchemaTooNew       the database was migrated by a newer Quantrac
    │   └── NotFound           no such row, for look-ups by key
    ├── BadMessage             a message that cannot become an uplink or event → reject
    ├── DecodeError            a payload its codec cannot read → uplink without readings
    │   └── DecodeTimeout      the codec was stopped; the same frame may be tried again
    ├── ConflictError          the thing exists already, or changed meanwhile
    └── DeliveryError
        └── ForbiddenAddress   a webhook points into a network it may not reach

`retryable` says whether the same call may succeed later without anybody changing anything.
"""

from __future__ import annotations


class QuantracError(Exception):
    """Base of all our errors; carries what the reader needs to find the frame again."""

    retryable = False

    def __init__(self, message: str, *, dev_eui: str | None = None, dedup_key: str | None = None) -> None:
        super().__init__(message)
        self.dev_eui = dev_eui
        self.dedup_key = dedup_key


class SettingsError(QuantracError):
    """`setting` is the environment variable's name, `cure` one sentence on what to write instead."""

    def __init__(self, setting: str, problem: str, cure: str) -> None:
        super().__init__(f"{setting}: {problem}. {cure}")
        self.setting = setting
        self.cure = cure


class UsageError(QuantracError):
    """A command line or an input file that cannot be acted on."""


class StoreError(QuantracError):
    """The database said no."""


class SchemaTooNew(StoreError):
    """The schema belongs to a newer program; running on would corrupt it."""


class NotFound(StoreError):
    """A look-up by key found nothing."""


class ConflictError(QuantracError):
    """The thing exists already, or somebody changed it meanwhile."""


class BadMessage(QuantracError):
    """A message no uplink or event can be made of.

    `reason` is a stable code for metrics and filters (`not_json`, `missing_field`, …), `field` the path
    of the offending field when there is one.
    """

    def __init__(self, reason: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field


class DecodeError(QuantracError):
    """The codec cannot read this payload; the uplink is stored all the same."""


class DecodeTimeout(DecodeError):
    """The codec ran too long and was stopped."""

    retryable = True


class DeliveryError(QuantracError):
    """A webhook could not be delivered this time."""

    retryable = True


class ForbiddenAddress(DeliveryError):
    """The address lies in a network that webhooks may not reach (QUANTRAC_WEBHOOK_ALLOW)."""

    retryable = False
