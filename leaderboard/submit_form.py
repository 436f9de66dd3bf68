"""The form by which people hand in a checkpoint: the file, how it is measured, what it is and who made it."""

from typing import Any

from django import forms

from evaluator.architectures import ARCHITECTURES
from evaluator.manifest import Manifest
from evaluator.protocol import EvaluationProtocol
from evaluator.shipped import PROTOCOLS, find_protocol
from leaderboard.architecture_forms import options_forms
from leaderboard.details_form import NO_CONSENT, SAID, DetailsForm, text_field
from leaderboard.uploads import Wish


def _protocols() -> list[tuple[str, str]]:
    found = [find_protocol(name) for name in PROTOCOLS]
    return [(one.name, f"{one.label} – {one.dataset}, {_within(one)}") for one in found]


def _within(protocol: EvaluationProtocol) -> str:
    epsilon = protocol.threat_model.epsilon
    radius = f"{epsilon:g}" if len(str(epsilon)) < 7 else f"{epsilon * 255:g}/255"
    return f"{protocol.threat_model.norm} ≤ {radius}"


class SubmitForm(DetailsForm):
    """What is asked of whoever hands in a file; each field's error says what was seen and what would be right."""

    file = forms.FileField(
        label="Checkpoint",
        help_text="safetensors, or a state dict saved by torch.save (.pt, .pth)",
        error_messages={"required": "choose a file", "empty": "the file is empty; choose the checkpoint itself"},
    )
    protocol = forms.ChoiceField(choices=_protocols, help_text="by which it is measured, on the data set it is for")
    title = text_field("title", help_text="how it is called on the board; it is public, also of anonymous submissions")
    architecture = forms.ChoiceField(
        choices=[("", "The file says so itself"), *((name, one.title) for name, one in ARCHITECTURES.items())],
        required=False,
        help_text="needed for state dicts, and for safetensors that manage.py pack has not written",
    )
    is_private = forms.BooleanField(
        label="Private", required=False, help_text="only you and staff see it, until you publish it"
    )
    preview = forms.BooleanField(
        label="Preview", required=False,
        help_text="a quick estimate of the robust error, for you and staff alone, after about a tenth of the work, "
        "which comes on top",
    )  # fmt: skip
    consent = forms.BooleanField(
        label="I may hand in this file, and agree that it is kept here to be measured, and that, unless it is private, "
        "its numbers and what is said above are published for everybody to use",
        error_messages={"required": f"tick this: {NO_CONSENT}"},
    )

    def __init__(self, data: Any = None, files: Any = None) -> None:
        super().__init__(data, files)
        self.options = options_forms((data or {}).get("architecture", ""), data)
        self.said = [self[name] for name in SAID]
        self.agreed = [self[name] for name in ("is_private", "is_anonymous", "consent")]

    def clean(self) -> dict[str, Any]:
        """Look at the options of the architecture that was chosen, and at no other's."""
        chosen = self.options.get(self.cleaned_data.get("architecture") or "")
        if chosen is not None and not chosen.is_valid():
            self.add_error("architecture", "correct its options below")
        return self.cleaned_data

    def wish(self) -> Wish:
        """Return what was asked for, once the form is valid."""
        said = self.cleaned_data
        protocol, architecture = find_protocol(said["protocol"]), said["architecture"]
        options = self.options[architecture].cleaned_data if architecture else {}
        return Wish(
            title=said["title"],
            protocol=protocol,
            is_private=said["is_private"],
            manifest=Manifest(architecture, protocol.dataset, options) if architecture else None,
            preview=said["preview"],
            details=self.details(consents=said["consent"]),
        )
