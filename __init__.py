from . import controllers, models, wizard
from .caching import cached
from .hooks import uninstall_hook
from .patches import post_load
from .services.computing import NOT_CHANGED, Tagged
from .services.miss import MISS
from .services.warming import warmup
