"""HTTP endpoints for programs outside; see ``docs/batch-api.md``."""

from . import batch, catalogue, monitoring
