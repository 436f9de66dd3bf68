"""The page on which staff lets workers train recipes, follows them and cancels one; what is done comes in by itself."""

from dataclasses import asdict
from itertools import groupby
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from evaluator.exceptions import InvalidRequest
from evaluator.shipped import PROTOCOLS, find_protocol
from evaluator.store import Queued, ShardState, TrainingOrder, TrainingRecord
from leaderboard import services, trail
from leaderboard.access import Rule, access
from trainers.orders import SEEDS, orders
from trainers.recipe import list_recipes, load_recipe

TRAININGS_ON_A_PAGE = 50
MOST_SEEDS = 100
_TURN = (ShardState.RUNNING, ShardState.QUEUED, ShardState.FAILED, ShardState.DONE)
_SHOWN = ("digest", "seed", "name", "state", "epochs", "epochs_done", "attempt", "worker", "fault", "error")


def _recipes() -> list[tuple[str, list[tuple[str, str]]]]:
    families = groupby(list_recipes(), lambda recipe: recipe.family)
    return [(family, [(one.name, f"{one.name}: {one.title}") for one in found]) for family, found in families]


def _protocols() -> list[tuple[str, str]]:
    return [("", "the first that ranks its data set"), *((name, find_protocol(name).label) for name in PROTOCOLS)]


class TrainForm(forms.Form):
    """Which recipe is trained with which seeds, and by what its checkpoints are measured."""

    recipe = forms.ChoiceField(choices=_recipes)
    changes = forms.CharField(
        max_length=500, required=False, help_text="as on a command line: optimizer.momentum=0.8 epochs=20"
    )
    seed = forms.IntegerField(label="First seed", min_value=0, max_value=SEEDS[-MOST_SEEDS], initial=0)
    count = forms.IntegerField(label="Number of seeds", min_value=1, max_value=MOST_SEEDS, initial=1)
    protocol = forms.ChoiceField(choices=_protocols, required=False, help_text="by which the checkpoints are measured")
    reason = forms.CharField(max_length=500, help_text="why; it stands in the trail")

    def clean(self) -> dict[str, Any]:
        """Look whether the recipe takes the changes, and the protocol its data set."""
        said = self.cleaned_data
        self.orders: list[TrainingOrder] = []
        if self.errors:
            return said
        try:
            recipe = load_recipe(f"{said['recipe']} {said['changes']}".strip())
        except InvalidRequest as refusal:
            self.add_error("changes", str(refusal))
            return said
        try:
            self.orders = orders([recipe], seed=said["seed"], count=said["count"], protocol=said["protocol"] or None)
        except InvalidRequest as refusal:
            self.add_error("protocol", str(refusal))
        return said


@access(Rule.STAFF)
@require_http_methods(["GET", "HEAD", "POST"])
def train(request: HttpRequest) -> HttpResponse:
    """Show all trainings, or queue what was asked for."""
    form = TrainForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            queued = _queue(request, form)
        except InvalidRequest as refusal:
            form.add_error("changes", str(refusal))
        else:
            said = f"Queued {queued.trainings} trainings for {queued.hand_ins} new entries."
            nothing = not queued.trainings and not queued.hand_ins
            messages.info(request, "Nothing is new: all of it was queued before." if nothing else said)
            return redirect("train")
    context = {"form": form, "trainings": _page(request)}
    return render(request, "leaderboard/train.html", context, status=400 if form.errors else 200)


@access(Rule.STAFF)
@require_safe
def train_json(request: HttpRequest) -> HttpResponse:
    """Give all trainings as JSON."""
    page = _page(request)
    found = [{name: value for name, value in asdict(one).items() if name in _SHOWN} for one in page]
    return JsonResponse(
        {"page": page.number, "pages": page.paginator.num_pages, "total": page.paginator.count, "trainings": found}
    )


@access(Rule.STAFF)
@require_POST
def cancel(request: HttpRequest, digest: str, seed: int) -> HttpResponse:
    """End a training; queued again, it goes on where it was."""
    reason = request.POST.get("reason", "").strip()
    if not reason:
        messages.warning(request, "Nothing was changed: say why, for whoever reads the trail of what staff did.")
        return redirect("train")
    store = services.training_store()
    names = [one.name for one in store.trainings() if (one.digest, one.seed) == (digest, seed)]
    with transaction.atomic():
        if names and store.cancel(digest, seed):
            trail.record(request.user, "cancel training", reason, subject=_called(names[0], seed))
            said = f"{_called(names[0], seed)} is cancelled; its worker notices at the end of the epoch."
        else:
            said = "Nothing was changed: no such training waits or runs."
    messages.info(request, said)
    return redirect("train")


def _queue(request: HttpRequest, form: TrainForm) -> Queued:
    first, said = form.orders[0], form.cleaned_data
    last = form.orders[-1].seed
    subject = _called(first.name, first.seed) + (f" to {last}" if last > first.seed else "")
    with transaction.atomic():
        trail.record(request.user, "train", said["reason"], subject=subject)
        return services.queue_trainings(form.orders)


def _called(name: str, seed: int) -> str:
    return f"{name}, seed {seed}"


def _page(request: HttpRequest) -> Page:
    """Return a page of all trainings: those that run first, then those that wait, failed and are done."""
    found: list[TrainingRecord] = list(services.training_store().trainings())
    found.sort(key=lambda one: _TURN.index(one.state))
    return Paginator(found, TRAININGS_ON_A_PAGE).get_page(request.GET.get("page"))
