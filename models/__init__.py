from . import (
    base,
    cache_entry,
    cache_event,
    cache_event_rule,
    cache_manager,
    cache_metric,
    cache_namespace,
    cache_rule,
    cache_schedule,
    ir_http,
    ir_rule,
    res_config_settings,
)
