import { registry } from "@web/core/registry";

const MODEL = "res.currency";

/** Reads as a user does, and returns what the cache says about the answer. */
async function read() {
    const params = { model: MODEL, method: "search_read", args: [[], ["name"]], kwargs: {} };
    const response = await fetch(`/web/dataset/call_kw/${MODEL}/search_read`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ id: 1, jsonrpc: "2.0", method: "call", params }),
    });
    await response.json();
    return response.headers.get("X-Odoo-Cache") || "";
}

/** Until the cache answers: the first reads of a table only have it watched. */
async function warm() {
    for (let attempt = 0; attempt < 40; attempt++) {
        if ((await read()).startsWith("L1;")) {
            return;
        }
        await new Promise((resolve) => setTimeout(resolve, 250));
    }
    throw new Error(`the cache never answers: ${await read()}`);
}

async function expectNext(text) {
    const answer = await read();
    if (!answer.startsWith(text)) {
        throw new Error(`expected "${text}", but the next read says "${answer}"`);
    }
}

registry.category("web_tour.tours").add("tiered_cache_rule_off", {
    steps: () => [
        { trigger: ".o_data_row:contains(Currency)", run: warm },
        { trigger: ".o_data_row:contains(Currency) .o_boolean_toggle input", run: "click" },
        { trigger: ".o_data_row:contains(Currency) .badge:contains(Never cached)" },
        {
            trigger: ".o_data_row:contains(Currency) .o_boolean_toggle input:not(:checked)",
            run: () => expectNext("miss; reason=disabled"),
        },
    ],
});

registry.category("web_tour.tours").add("tiered_cache_rule_card", {
    steps: () => [
        { trigger: ".o_switch_view.o_kanban", run: "click" },
        {
            trigger: ".o_kanban_record:contains(Currency) .o_boolean_toggle input:checked",
            run: "click",
        },
        {
            content: "the card has moved to the column of what it does now",
            trigger:
                ".o_kanban_group:contains(Never cached) .o_kanban_record:contains(Currency)" +
                " .o_boolean_toggle input:not(:checked)",
        },
    ],
});

registry.category("web_tour.tours").add("tiered_cache_remove_by_pattern", {
    steps: () => [
        { trigger: ".o_list_view, .o_view_nocontent", run: warm },
        { trigger: ".o_control_panel button:contains(Remove…)", run: "click" },
        { trigger: ".modal .o_field_widget[name=kind] input", run: "click" },
        { trigger: ".o_select_menu_item:contains(Keys that match a pattern)", run: "click" },
        {
            trigger: ".modal .o_field_widget[name=pattern] input",
            run: `edit v1:orm:${MODEL}:* && press Tab`,
        },
        { trigger: ".modal .o_tiered_cache_preview .o_field_widget[name=count_l1]:contains(/[1-9]/)" },
        { trigger: ".modal button[name=action_remove]", run: "click" },
        { trigger: ".modal .o_tiered_cache_progress:contains(Done)", run: () => expectNext("miss") },
        { trigger: ".modal footer button:contains(Close)", run: "click" },
        { trigger: "body:not(:has(.modal))" },
    ],
});

const URL_FIELD = ".o_field_widget[name=tiered_cache_redis_url] input";
const TEST_BUTTON = "button[name=action_tiered_cache_test_redis]";

registry.category("web_tour.tours").add("tiered_cache_redis_settings", {
    steps: () => [
        { trigger: URL_FIELD, run: "edit redis://127.0.0.1:1/0" },
        { trigger: TEST_BUTTON, run: "click" },
        { trigger: ".modal:contains(Nothing listens)" },
        { trigger: ".modal footer button", run: "click" },
        { trigger: "body:not(:has(.modal))" },
        {
            trigger: URL_FIELD,
            run: (helpers) => helpers.edit(window.tieredCacheRedis),
        },
        { trigger: TEST_BUTTON, run: "click" },
        { trigger: ".o_notification:contains(answers in)" },
        { trigger: ".o_form_button_cancel", run: "click" },
    ],
});
