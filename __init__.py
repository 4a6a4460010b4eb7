from . import models
from .hooks import uninstall_hook
from .patches import post_load
