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
