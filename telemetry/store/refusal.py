"""Why a database refuses a connection, in words that name the cure."""

from __future__ import annotations

_CURES = (
    (
        "does not match host name",
        "Its certificate is made for another name: connect by that name, or have one made for this one.",
    ),
    (
        "certificate verify failed",
        "Its certificate is signed by none of those in sslrootcert: name the file of the authority that "
        "signed it (sslrootcert=/etc/quantrac/ca.pem; sslrootcert=system for a public one).",
    ),
    (
        "root certificate file",
        "sslmode=verify-full needs sslrootcert=FILE with the authority's certificate, readable by this user "
        "(sslrootcert=system for a public one).",
    ),
    (
        "does not support SSL",
        "It speaks no TLS: switch it on there (postgresql.conf: ssl = on; PgBouncer: client_tls_sslmode).",
    ),
    (
        "unsupported startup parameter",
        "The pooler knows no such parameter: leave `options` out of QUANTRAC_DATABASE_URL.",
    ),
    ("password authentication failed", "Correct user or password in QUANTRAC_DATABASE_URL."),
    ("no pg_hba.conf entry", "Let this machine in (pg_hba.conf), or ask for TLS with sslmode=verify-full."),
)


def cure(error: Exception) -> str:
    """One sentence, or nothing where the error says it itself."""
    text = str(error)
    return next((sentence for words, sentence in _CURES if words in text), "")
