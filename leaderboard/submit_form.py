"""The form by which people hand in a checkpoint: the file, how it is measured, what it is and who made it."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils import timezone

from evaluator.architectures import ARCHITECTURES
from evaluator.manifest import Manifest
from evaluator.protocol import PROTOCOLS, EvaluationProtocol, find_protocol
from leaderboard.architecture_forms import options_forms
from leaderboard.details import Details
from leaderboard.models import ExtraData, Submission
from leaderboard.uploads import Wish

_SAID = ("authors", "paper", "venue", "extra_data")


def _printable(text: str) -> None:
    if not text.isprintable():
        raise ValidationError("this holds characters that cannot be printed; write it in one line of plain text")


def _text(name: str, **declared: Any) -> forms.CharField:
    longest = Submission._meta.get_field(name).max_length
    return forms.CharField(max_length=longest, validators=[_printable], **declared)


def _protocols() -> list[tuple[str, str]]:
    found = [find_protocol(name) for name in PROTOCOLS]
    return [(one.name, f"{one.label} – {one.dataset}, {_within(one)}") for one in found]


def _within(protocol: EvaluationProtocol) -> str:
    epsilon = protocol.threat_model.epsilon
    radius = f"{epsilon:g}" if len(str(epsilon)) < 7 else f"{epsilon * 255:g}/255"
    return f"{protocol.threat_model.norm} ≤ {radius}"


class SubmitForm(forms.Form):
    """What is asked of whoever hands in a file; each field's error says what was seen and what would be right."""

    file = forms.FileField(
        label="Checkpoint",
        help_text="safetensors, or a state dict saved by torch.save (.pt, .pth)",
        error_messages={"required": "choose a file", "empty": "the file is empty; choose the checkpoint itself"},
    )
    protocol = forms.ChoiceField(choices=_protocols, help_text="by which it is measured, on the data set it is for")
    title = _text("title", help_text="how it is called on the board; it is public, also of anonymous submissions")
    architecture = forms.ChoiceField(
        choices=[("", "The file says so itself"), *((name, one.title) for name, one in ARCHITECTURES.items())],
        required=False,
        help_text="needed for state dicts, and for safetensors that manage.py pack has not written",
    )
    authors = _text("authors", required=False, help_text="for example: A. Lovelace, C. Babbage")
    paper = forms.CharField(
        max_length=300,
        required=False,
        widget=forms.URLInput,
        validators=[
            URLValidator(["http", "https"], message="give a whole address that begins with https:// or http://")
        ],
        help_text="the address of a paper, or of code",
    )
    venue = _text("venue", required=False, help_text="where it was published, for example: ICCV 2021")
    extra_data = forms.ChoiceField(
        choices=[(one.value, one.value.capitalize()) for one in ExtraData],
        label="Extra data",
        help_text="on what it was trained beside the data set’s training images",
    )
    is_private = forms.BooleanField(
        label="Private", required=False, help_text="only you and staff see it, until you publish it"
    )
    is_anonymous = forms.BooleanField(
        label="Anonymous", required=False, help_text="only you and staff see authors and paper, until you reveal them"
    )
    consent = forms.BooleanField(
        label="I may hand in this file, and agree that it is kept here to be measured, and that, unless it is private, "
        "its numbers and what is said above are published for everybody to use",
        error_messages={"required": "tick this: without your consent the file can be neither kept nor measured"},
    )

    def __init__(self, data: Any = None, files: Any = None) -> None:
        super().__init__(data, files)
        self.options = options_forms((data or {}).get("architecture", ""), data)
        self.said = [self[name] for name in _SAID]
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
            details=Details(**{name: said[name] for name in (*_SAID, "is_anonymous")}, consented_at=timezone.now()),
        )
