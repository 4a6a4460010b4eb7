import { registry } from "@web/core/registry";
import {
    BooleanToggleField,
    booleanToggleField,
} from "@web/views/fields/boolean_toggle/boolean_toggle_field";

/** A toggle on a card: what it changes decides in which column the card belongs. */
export class RuleToggle extends BooleanToggleField {
    async onChange(value) {
        await super.onChange(value);
        await this.props.record.model.load();
    }
}

registry.category("fields").add("tiered_cache_rule_toggle", {
    ...booleanToggleField,
    component: RuleToggle,
});
