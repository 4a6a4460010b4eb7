from . import base
from . import cache_entry
from . import cache_manager
from . import cache_metric
from . import cache_rule
from . import res_config_settings
