import { _t } from "@web/core/l10n/translation";

export const HEADER = "X-Odoo-Cache";

const VIEW_METHODS = new Set([
    "web_search_read",
    "web_read",
    "web_read_group",
    "formatted_read_group",
    "formatted_read_grouping_sets",
    "read_group",
    "search_read",
    "read",
]);

/** Whether the data of a view is read by this method. */
export function isOfView(method) {
    return VIEW_METHODS.has(method);
}

/**
 * "L1; age=12; saved=48ms" or "miss; reason=stale", each perhaps with "; reads=3; hits=1".
 *
 * @returns {{ tier: string, reason: string, age: number, saved: number, reads: number, hits: number }}
 *  tier is "" for a miss; age in seconds, saved in milliseconds
 */
export function parseHeader(text) {
    const [first, ...rest] = text.split(";").map((part) => part.trim());
    const values = Object.fromEntries(rest.map((part) => part.split("=")));
    const hit = first !== "miss";
    return {
        tier: hit ? first : "",
        reason: values.reason || "",
        age: parseInt(values.age) || 0,
        saved: parseInt(values.saved) || 0,
        reads: parseInt(values.reads) || 1,
        hits: parseInt(values.hits) || (hit ? 1 : 0),
    };
}

/** 45 s, 3 min, 2 h: as short as it can be said. */
export function formatAge(seconds) {
    if (seconds < 60) {
        return _t("%s s", seconds);
    }
    return seconds < 3600
        ? _t("%s min", Math.round(seconds / 60))
        : _t("%s h", Math.round(seconds / 3600));
}

/** Why a read was computed, in words. */
export function reasonLabel(reason) {
    const labels = {
        cold: _t("never asked before"),
        stale: _t("data changed"),
        expired: _t("time to live over"),
        evicted: _t("pushed out of memory"),
        dirty: _t("transaction had written"),
        cheap: _t("too cheap to keep"),
        large: _t("too large to keep"),
        unserializable: _t("value cannot be packed"),
        uncacheable: _t("cannot be cached"),
        suspended: _t("suspended"),
        fault: _t("a tier failed"),
        unguarded: _t("table not guarded yet"),
        disabled: _t("caching is off"),
        orm_cache: _t("already in the ORM cache"),
        old_snapshot: _t("old snapshot"),
    };
    return labels[reason] || reason;
}
