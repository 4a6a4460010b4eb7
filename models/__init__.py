from . import (
    base,
    cache_entry,
    cache_manager,
    cache_metric,
    cache_rule,
    cache_schedule,
    ir_rule,
    res_config_settings,
)
