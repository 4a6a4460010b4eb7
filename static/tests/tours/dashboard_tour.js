import { registry } from "@web/core/registry";
import { stepUtils } from "@web_tour/tour_utils";

const open = [
    stepUtils.showAppsMenuItem(),
    {
        content: "open the app: the dashboard is its first menu",
        trigger: ".o_app[data-menu-xmlid='tiered_cache.menu_root']",
        run: "click",
    },
];

registry.category("web_tour.tours").add("tiered_cache_dashboard", {
    steps: () => [
        ...open,
        {
            content: "figures of the last 24 hours",
            trigger: ".o_tiered_cache_tile[name='hit_rate'] .o_tiered_cache_value:contains('%')",
        },
        { trigger: ".o_tiered_cache_period:contains('Last 24 Hours')", run: "click" },
        { trigger: ".o_tiered_cache_periods [data-period='month']", run: "click" },
        {
            content: "figures of a month",
            trigger: ".o_tiered_cache_period:contains('Last 30 Days')",
        },
        { trigger: ".o_tiered_cache_card[name='saving_chart'] canvas" },
        {
            content: "details of what misses most",
            trigger: "section[name='misses'] tbody tr:first .o_tiered_cache_toggle button",
            run: "click",
        },
        { trigger: ".o_tiered_cache_details:contains('Data changed')" },
        {
            content: "follow it to its figures",
            trigger: "section[name='misses'] tbody tr:first button[name='figures']",
            run: "click",
        },
        { trigger: ".o_list_view .o_data_row" },
        {
            content: "and come back to the same period",
            trigger: ".breadcrumb-item.o_back_button, .o_back_button",
            run: "click",
        },
        { trigger: ".o_tiered_cache_period:contains('Last 30 Days')" },
        {
            content: "write a rule for it",
            trigger: "section[name='misses'] tbody tr:first button[name='rule']",
            run: "click",
        },
        { trigger: ".o_form_view .o_field_widget[name='model_id'] input:value(/./)" },
        { trigger: ".o_form_view .o_field_widget[name='methods'] input" },
        {
            content: "leave it",
            trigger: ".o_back_button",
            run: "click",
        },
        { trigger: ".o_tiered_cache_dashboard" },
    ],
});

registry.category("web_tour.tours").add("tiered_cache_dashboard_empty", {
    steps: () => [
        ...open,
        {
            content: "it says what to do",
            trigger: ".o_tiered_cache_dashboard .o_view_nocontent_smiling_face:contains('Nothing measured yet')",
        },
    ],
});

const advice = (kind) => `.o_tiered_cache_advice[data-kind='${kind}']`;
const gone = (kind) => `.o_tiered_cache_card[name='advice']:not(:has(${advice(kind)}))`;

registry.category("web_tour.tours").add("tiered_cache_advice", {
    steps: () => [
        ...open,
        {
            content: "a method that does not pay, with its figures",
            trigger: `${advice("does_not_pay")}:contains('res.bank.read'):contains('200 calls')`,
        },
        { trigger: `${advice("does_not_pay")} .btn-primary:contains(Stop)`, run: "click" },
        { trigger: ".modal:contains('A rule is created') .btn-primary", run: "click" },
        { trigger: ".o_notification:contains('There is a rule now')" },
        { content: "is gone", trigger: gone("does_not_pay") },

        {
            content: "a setting",
            trigger: `${advice("l1_too_small")} .btn-primary:contains('Set to 128 megabytes')`,
            run: "click",
        },
        { trigger: ".modal:contains('from 64 to 128') .btn-primary", run: "click" },
        { trigger: ".o_notification:contains('is 128 megabytes now')" },
        { content: "is gone", trigger: gone("l1_too_small") },

        {
            content: "a column that is not worth it, with its figures",
            trigger: `${advice("needless_column")}:contains('60 of them'):contains('Country')`,
        },
        {
            content: "opens a rule",
            trigger: `${advice("needless_column")} .btn-primary`,
            run: "click",
        },
        { trigger: ".o_form_view .o_field_widget[name='model_id'] input:value(/./)" },
        {
            content: "which allows some delay",
            trigger: ".o_form_view .o_field_widget[name='consistency'] input:value(/moments/)",
        },
        { trigger: ".o_form_button_save", run: "click" },
        { trigger: ".o_form_saved" },
        { trigger: ".o_back_button", run: "click" },
        { content: "is gone", trigger: gone("needless_column") },
    ],
});
