"""A client for another Odoo: pooled, batching, cached.

From the caller to the wire: :mod:`.reader` (the tiers, by :mod:`..outside`) → :mod:`.dedup` →
:mod:`.batcher` → :mod:`.client` (deadline, breaker, retries) → :mod:`.protocols` →
:mod:`.transport` → :mod:`.pool`.  :mod:`.following` hears of changes.  Nothing below :mod:`.reader`
knows of Odoo's environment.
"""
