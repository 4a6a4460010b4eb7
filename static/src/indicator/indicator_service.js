import { reactive } from "@odoo/owl";
import { browser } from "@web/core/browser/browser";
import { rpc, rpcBus } from "@web/core/network/rpc";
import { registry } from "@web/core/registry";
import { session } from "@web/session";
import { CacheIndicator } from "./indicator";
import { HEADER, isOfView, parseHeader } from "./indicator_header";

const MAX_RECENT = 12;

/** Where a call went that is none of a model's methods, as Odoo opening an action. */
function pathOf(address) {
    return new URL(address || "", browser.location.href).pathname;
}

/**
 * Reads what the cache says about each answer, for Cache Administrators in developer mode.
 *
 * The web client does not pass on the headers of an answer. But `rpc` takes a request to use in
 * `settings.xhr`, and hands its settings to whoever listens to `rpcBus`. So each call gets a request
 * of ours, and its header is read when the answer is announced. Nothing is done for anybody else.
 */
export const indicatorService = {
    start() {
        const state = reactive({ last: null, recent: [] });
        if (!odoo.debug || !session.tiered_cache?.indicator) {
            return state;
        }
        const call = rpc._rpc;
        rpc._rpc = (url, params, settings = {}) => {
            const { cache, ...others } = settings;
            if (cache || settings.xhr) {
                // a call that the client may answer from its own memory comes here again
                return call(url, params, settings);
            }
            return call(url, params, { ...others, xhr: new browser.XMLHttpRequest() });
        };
        let number = 0;
        rpcBus.addEventListener("RPC:RESPONSE", ({ detail }) => {
            const { data, settings, error } = detail;
            const text = !error && settings.xhr?.getResponseHeader?.(HEADER);
            if (!text) {
                return;
            }
            const { model, method } = data.params || {};
            const path = model ? "" : pathOf(settings.xhr.responseURL);
            const answer = { id: ++number, model, method, path, ...parseHeader(text) };
            if (isOfView(method)) {
                state.last = answer;
            }
            state.recent = [answer, ...state.recent].slice(0, MAX_RECENT);
        });
        registry
            .category("systray")
            .add("tiered_cache.indicator", { Component: CacheIndicator }, { sequence: 99 });
        return state;
    },
};

registry.category("services").add("tiered_cache_indicator", indicatorService);
