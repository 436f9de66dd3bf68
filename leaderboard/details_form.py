"""What is asked about a checkpoint beside its file: the same words are good by form, by API and by command."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils import timezone

from evaluator.exceptions import InvalidRequest
from leaderboard.details import Details
from leaderboard.models import ExtraData, Submission

SAID = ("authors", "paper", "venue", "extra_data")
NO_CONSENT = "without your consent the file can be neither kept nor measured"


def _printable(text: str) -> None:
    if not text.isprintable():
        raise ValidationError("this holds characters that cannot be printed; write it in one line of plain text")


def text_field(name: str, **declared: Any) -> forms.CharField:
    """Return a field for one line that fits where a submission keeps it."""
    longest = Submission._meta.get_field(name).max_length
    return forms.CharField(max_length=longest, validators=[_printable], **declared)


class DetailsForm(forms.Form):
    """Who made a network, where it is described, and what it was trained on; each error says what would be right."""

    authors = text_field("authors", required=False, help_text="for example: A. Lovelace, C. Babbage")
    paper = forms.CharField(
        max_length=300,
        required=False,
        widget=forms.URLInput,
        validators=[
            URLValidator(["http", "https"], message="give a whole address that begins with https:// or http://")
        ],
        help_text="the address of a paper, or of code",
    )
    venue = text_field("venue", required=False, help_text="where it was published, for example: ICCV 2021")
    extra_data = forms.ChoiceField(
        choices=[(one.value, one.value.capitalize()) for one in ExtraData],
        label="Extra data",
        help_text="on what it was trained beside the data set’s training images",
    )
    is_anonymous = forms.BooleanField(
        label="Anonymous", required=False, help_text="only you and staff see authors and paper, until you reveal them"
    )

    def details(self, *, consents: bool) -> Details:
        """Return what was said, once the form is valid, and since when its sender consents, if at all."""
        said = {name: self.cleaned_data[name] for name in (*SAID, "is_anonymous")}
        return Details(**said, consented_at=timezone.now() if consents else None)


def read_details(said: Mapping[str, Any], *, consents: bool) -> Details:
    """Return the details that somebody wrote without a form.

    Raises:
        InvalidRequest: the form would refuse them; the sentence is its own.
    """
    form = DetailsForm(said)
    if not form.is_valid():
        name, sentences = next(iter(form.errors.items()))
        raise InvalidRequest(f"{name}: {sentences[0]}")
    return form.details(consents=consents)
