"""A fieldset of options for every architecture, made from the schemas of the registry."""

from typing import Any

from django import forms

from evaluator.architectures import ARCHITECTURES, Architecture


class OptionsForm(forms.Form):
    """The options of one architecture, at its published form."""

    def __init__(self, architecture: Architecture, data: Any = None) -> None:
        super().__init__(data, prefix=architecture.name)
        self.architecture = architecture
        schema = architecture.options.model_json_schema()
        for name, declared in schema["properties"].items():
            reference = declared.get("$ref", "").rpartition("/")[2]
            self.fields[name] = _field(schema["$defs"][reference] | declared if reference else declared)

    @property
    def about(self) -> str:
        """What the options mean, in the registry's words."""
        return self.architecture.options.__doc__ or ""


def options_forms(chosen: str = "", data: Any = None) -> dict[str, OptionsForm]:
    """Return the forms of all architectures, the chosen one's filled with what was sent."""
    return {
        name: OptionsForm(architecture, data if name == chosen else None)
        for name, architecture in ARCHITECTURES.items()
    }


def _field(declared: dict[str, Any]) -> forms.Field:
    """Return the field of an option: a choice, or a whole number between bounds."""
    default = declared["default"]
    if "enum" in declared:
        choices = [(value, value) for value in declared["enum"]]
        return forms.TypedChoiceField(choices=choices, coerce=type(default), initial=default)
    return forms.IntegerField(min_value=declared["minimum"], max_value=declared["maximum"], initial=default)
