"""What a submitter can do about a failure, by the name of the error, and whose fault it is in words (pure)."""

from evaluator.exceptions import Fault

WHOSE: dict[Fault, str] = {
    Fault.SUBMITTER: "what was submitted",
    Fault.OPERATOR: "the machines of this board",
    Fault.OURS: "the software of this board",
}

_BY_FAULT: dict[Fault, str] = {
    Fault.SUBMITTER: "Correct what the reason names and submit the file again.",
    Fault.OPERATOR: "Nothing is wrong with the submission. Run it again once whoever runs this board has acted.",
    Fault.OURS: "Nothing is known to be wrong with the submission. Run it again; if it fails again, report its run id.",
}

_BY_KIND: dict[str, str] = {
    "InvalidCheckpoint": "Measure the file with manage.py evaluate on your own machine, which says the same: names, "
    "shapes and finite weights must be those of the architecture. Then submit the corrected file.",
    "InvalidRequest": "Compare architecture, options and protocol with what the file holds, and submit it again.",
    "DatasetMissing": "The images of the protocol are missing on a worker. Run it again once they are there.",
    "ArtifactMissing": "The stored file is gone or damaged. Submit the same file again.",
    "ArtifactsUnavailable": "The place where files are stored did not answer. Run it again later.",
    "OutOfMemory": "Not even a batch of one fits into the workers' memory. It can be run again on a larger device; a "
    "smaller network may fit as well.",
    "ShardTimeout": "A piece of the work took longer than is allowed here. It can be run again on a faster device.",
    "MeasuringDied": "The process that measured it crashed or was killed, three times over the same examples. Measure "
    "the file on your own machine; if it works there, run it again.",
    "WorkerSilent": "Workers vanished while they measured it, three times over the same examples. Run it again.",
}


def hint(kind: str | None, fault: Fault) -> str:
    """Return what can be done about a failure: by the name of its error, else by who has to act."""
    return _BY_KIND.get(kind or "", _BY_FAULT[fault])
