from . import cache_operation
