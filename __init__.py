from . import models
from .hooks import uninstall_hook
from .public_method import post_load
