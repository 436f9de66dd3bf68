"""Tables of the site: what people submitted, and what is published of it.

Entries and measurements are a projection of the run store; `services.rebuild` makes them again. Everything that has to
outlive a rebuild (slug, date of publication, owner) stands with the submission.
"""

import uuid

from django.conf import settings
from django.db import models
from django.urls import reverse


class State(models.TextChoices):
    """Where a submission stands."""

    SUBMITTED = "submitted"
    QUEUED = "queued"
    RUNNING = "running"
    MEASURED = "measured"
    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUSPENDED = "suspended"
    WITHDRAWN = "withdrawn"

    @property
    def ended(self) -> bool:
        """Whether nothing changes unless somebody asks for it. What is private ends as measured."""
        return self not in (State.SUBMITTED, State.QUEUED, State.RUNNING)


class ExtraData(models.TextChoices):
    """What a network was trained on beside the training images of its data set."""

    NOT_STATED = "not stated"
    NONE = "none"
    UNLABELED = "unlabeled images"
    GENERATED = "generated images"
    LABELED = "labeled images"
    PRETRAINED = "pretrained weights"


class Submission(models.Model):
    """One checkpoint under one protocol, as a person sent it."""

    run_id = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    title = models.CharField(max_length=100)
    slug = models.SlugField(max_length=120, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    is_reference = models.BooleanField(default=False)
    idempotency_key = models.CharField(max_length=100, blank=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    checkpoint_sha256 = models.CharField(max_length=64)
    manifest = models.JSONField()
    stored_numbers = models.PositiveBigIntegerField()
    protocol_name = models.CharField(max_length=64)
    protocol_version = models.PositiveIntegerField()
    protocol_digest = models.CharField(max_length=64)
    protocol = models.JSONField()
    state = models.CharField(max_length=16, choices=State, default=State.SUBMITTED)
    is_private = models.BooleanField(default=False)
    """Its owner and staff alone know of it; it has no entry, wherever its run stands."""
    authors = models.CharField(max_length=300, blank=True)
    paper = models.URLField(max_length=300, blank=True)
    venue = models.CharField(max_length=100, blank=True)
    extra_data = models.CharField(max_length=20, choices=ExtraData, default=ExtraData.NOT_STATED)
    is_anonymous = models.BooleanField(default=False)
    """Its owner and staff alone see authors and paper."""
    wants_preview = models.BooleanField(default=False)
    """Its owner and staff get a quick estimate while it is measured."""
    consented_at = models.DateTimeField(null=True, blank=True)
    failure = models.TextField(blank=True)
    fault = models.CharField(max_length=16, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    published_at = models.DateTimeField(null=True, blank=True)
    suspended_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    staff_reason = models.TextField(blank=True)
    """Why staff suspended or withdrew it, as everybody reads it."""

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["checkpoint_sha256", "protocol_digest"], name="one_submission_per_run"),
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"],
                condition=~models.Q(idempotency_key=""),
                name="one_submission_per_key",
            ),
        )
        indexes = (models.Index(fields=["state"]), models.Index(fields=["protocol_digest"]))

    def __str__(self) -> str:
        return f"{self.title} under {self.protocol_label}"

    def get_absolute_url(self) -> str:
        """Return the address of the page that shows what became of it."""
        return reverse("entry", args=[self.slug])

    @property
    def protocol_label(self) -> str:
        """Return name and version of the protocol, as `EvaluationProtocol.label` does."""
        return f"{self.protocol_name} v{self.protocol_version}"


class Entry(models.Model):
    """The published result of one run."""

    submission = models.OneToOneField(Submission, on_delete=models.CASCADE)
    run_id = models.UUIDField(unique=True, editable=False)
    rankable = models.BooleanField()
    seed = models.BigIntegerField()
    versions = models.JSONField()
    stages = models.JSONField()
    findings = models.JSONField(default=list)
    curves = models.JSONField(default=list)
    seconds = models.FloatField()
    robust_on_test = models.TextField()
    """One character a test example in the data set's order: 1 when AutoAttack never broke it, else 0."""

    class Meta:
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return f"result of run {self.run_id}"


class Measurement(models.Model):
    """One published number with its 95 % interval; `split` is empty for gaps."""

    entry = models.ForeignKey(Entry, on_delete=models.CASCADE, related_name="measurements")
    metric = models.CharField(max_length=64)
    split = models.CharField(max_length=8, blank=True)
    value = models.FloatField()
    low = models.FloatField()
    high = models.FloatField()
    n = models.PositiveIntegerField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["entry", "metric", "split"], name="one_number_per_metric"),)
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.metric} {self.split} = {self.value}"


class ReportedResult(models.Model):
    """A row of numbers that others published: reported, not measured here, never ranked."""

    source = models.CharField(max_length=200)
    setting = models.CharField(max_length=200)
    position = models.PositiveIntegerField()
    method = models.CharField(max_length=100)
    group = models.CharField(max_length=32, blank=True)
    values = models.JSONField()
    dataset = models.CharField(max_length=32, blank=True)
    norm = models.CharField(max_length=8, blank=True)
    epsilon = models.FloatField(default=0)
    title = models.CharField(max_length=500, blank=True)
    authors = models.CharField(max_length=500, blank=True)
    link = models.CharField(max_length=300, blank=True)
    architecture = models.CharField(max_length=500, blank=True)
    venue = models.CharField(max_length=500, blank=True)
    extra_data = models.BooleanField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["source", "setting", "method"], name="one_row_per_setting_and_method"),
        )
        ordering = ("source", "setting", "position")

    def __str__(self) -> str:
        return f"{self.method}, reported in {self.source}"


class StaffAct(models.Model):
    """What staff did, and why; see `trail`. The database refuses to change a row, PostgreSQL to delete one."""

    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=150)
    """By name, so that it outlives the account."""
    what = models.CharField(max_length=32)
    submission = models.ForeignKey(Submission, null=True, on_delete=models.PROTECT, related_name="staff_acts")
    run_id = models.UUIDField(null=True)
    """The run that the submission had before the act."""
    subject = models.CharField(max_length=250)
    reason = models.TextField(blank=True)

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.actor}: {self.what} {self.subject}"


class Verdict(models.TextChoices):
    """What staff made of an objection; readers see those that were accepted or rejected."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DISMISSED = "dismissed"


class Objection(models.Model):
    """What somebody says against a published entry, and the answer; readers do not learn who it is."""

    submission = models.ForeignKey(Submission, on_delete=models.CASCADE, related_name="objections")
    objector = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    text = models.TextField()
    verdict = models.CharField(max_length=16, choices=Verdict, default=Verdict.OPEN)
    answer = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    answered_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["submission", "objector"], condition=models.Q(verdict="open"), name="one_open_objection"
            ),
        )
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.verdict} objection to {self.submission}"


class Token(models.Model):
    """A personal API token; of its text only the SHA-256 is kept, which is enough for 256 random bits."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=60)
    digest = models.CharField(max_length=64, unique=True)
    start = models.CharField(max_length=12)
    """How its text begins, by which its owner knows it again."""
    scopes = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.start}… of {self.owner}"


class Attempts(models.Model):
    """How often somebody did something in a window of time; see `throttling`."""

    key = models.CharField(max_length=64, primary_key=True)
    count = models.PositiveIntegerField()
    ends_at = models.BigIntegerField(db_index=True)
    """In seconds since 1970."""

    class Meta:
        verbose_name_plural = "attempts"

    def __str__(self) -> str:
        return f"{self.count} until {self.ends_at}"
