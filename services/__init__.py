"""The engine of Tiered Cache, importable without a database.

Data flows one way: ``models/base.py`` hands a read to :mod:`engine`, which asks
:mod:`policy` whether to cache it, :mod:`versions` what this transaction's snapshot
shows, :mod:`keys` how the call is called, and :mod:`hierarchy` whether a tier holds a
valid answer.  On a miss :mod:`recorder` watches the SQL of the computation, and the
answer goes to the tiers that admit it.  :mod:`journal` is the only module that knows
how versions are stored in PostgreSQL.

What no request waits for is queued in an :mod:`outbox`; one thread per process, the
:mod:`keeper`, goes round those of all databases, and lets :mod:`pressure` make L1 give way
before the process becomes too large.
"""
