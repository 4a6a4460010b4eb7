import { registry } from "@web/core/registry";
import { ControllerNotFoundError } from "@web/webclient/actions/action_service";

/** Leaves a record that is not there any more: back to where one came from, or to the entries. */
export async function leave(env) {
    try {
        await env.services.action.restore();
    } catch (error) {
        if (!(error instanceof ControllerNotFoundError)) {
            throw error;
        }
        return "tiered_cache.cache_entry_action";
    }
}

registry.category("actions").add("tiered_cache_leave", leave);
