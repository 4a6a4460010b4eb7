"""The three stores behind one small interface.

A tier keeps :class:`~..entry.Entry` objects under their keys and knows nothing of versions,
models or requests; whether an entry may be used is for the caller to judge.

=============  =================================  ==========================================
``l1``         :class:`.memory.MemoryTier`        memory of this process
``l2``         :class:`.redis.RedisTier`          Redis or Valkey, shared by all workers
``l3``         :class:`.database.DatabaseTier`    the table ``cache_entry``
=============  =================================  ==========================================

A tier never raises: what goes wrong is counted in ``faults`` and answered with a miss,
within a bounded time.  The ``redis`` package is imported on first use of L2, not here.
"""

from .base import Tier
from .database import DatabaseTier
from .memory import MemoryTier
from .redis import RedisTier

__all__ = ['DatabaseTier', 'MemoryTier', 'RedisTier', 'Tier']
