"""What may go wrong between two Odoos, as exceptions of our own.

The one idea: an *outage* says nothing about the answer, so an old one may stand in for it and a
read may be tried again; a *refusal* is the answer, and nothing stands in for it.

What may go wrong: a text of the other server holds what it should not.  :func:`clean` takes one
line of it, of bounded length, without the secrets; a traceback is never passed on.
"""

from __future__ import annotations

MAX_CHARACTERS = 300
"""Of a message; what people read."""

HIDDEN = '***'


class RemoteError(Exception):
    """:cvar outage: whether it says nothing about what the answer would have been
    :cvar local: whether it says nothing about the other server either
    :cvar kind: one word for figures and pages
    """

    outage = False
    local = False
    kind = 'error'


class RemoteAuthenticationError(RemoteError):
    """The other server does not know the login or the API key."""

    kind = 'authentication'


class RemoteAccessError(RemoteError):
    """The user of the API key may not do that."""

    kind = 'access'


class RemoteValidationError(RemoteError):
    """The other server does not accept the call: a wrong model, method, field or value."""

    kind = 'validation'


class RemoteMissingError(RemoteError):
    """A record does not exist, or not any more."""

    kind = 'missing'


class RemoteTimeout(RemoteError):
    """No answer, or no connection, in time."""

    outage = True
    kind = 'timeout'


class RemoteUnreachable(RemoteError):
    """No connection, one that broke, or a server that says it cannot serve now."""

    outage = True
    kind = 'unreachable'


class PoolBusy(RemoteTimeout):
    """All connections are in use for too long."""

    local = True
    kind = 'busy'


class PoolClosing(RemoteUnreachable):
    """The connections are being closed, since the remote was changed."""

    local = True
    kind = 'closing'


class RemoteProtocolError(RemoteError):
    """What came is no answer of an Odoo."""

    outage = True
    kind = 'protocol'


class AddressRefused(RemoteUnreachable):
    """An address that this server must not connect to; see ``allowed_hosts``."""

    outage = False
    kind = 'refused'


_BY_NAME = {
    'AccessDenied': RemoteAuthenticationError,
    'AccessError': RemoteAccessError,
    'MissingError': RemoteMissingError,
    'ValidationError': RemoteValidationError,
    'UserError': RemoteValidationError,
    # of PostgreSQL: the same call may succeed a moment later
    'SerializationFailure': RemoteUnreachable,
    'LockNotAvailable': RemoteUnreachable,
    'DeadlockDetected': RemoteUnreachable,
    'ConcurrencyError': RemoteUnreachable,
    'LockError': RemoteUnreachable,
    'PoolError': RemoteUnreachable,
    'OperationalError': RemoteUnreachable,
}


def error_of(name: str, message: str, secrets=()) -> RemoteError:
    """The exception for one that the other Odoo has raised.

    :param name: of its class, with or without the module: 'odoo.exceptions.AccessError'
    """
    short = str(name).rpartition('.')[2]
    cls = _BY_NAME.get(short)
    text = clean(message, secrets)
    if cls is None:
        # a mistake in the call, most likely; its kind is worth more than its text alone
        return RemoteValidationError(f'{clean(short, secrets)}: {text}')
    return cls(text)


def clean(text, secrets=()) -> str:
    """The last line that says something, without secrets, at most :data:`MAX_CHARACTERS`."""
    text = str(text)
    for secret in secrets:
        if secret:
            text = text.replace(secret, HIDDEN)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ''
    # the last line of a traceback is the error; otherwise the first one says it
    line = lines[-1] if lines[0].startswith('Traceback') else lines[0]
    return ''.join(c for c in line if c.isprintable())[:MAX_CHARACTERS]
