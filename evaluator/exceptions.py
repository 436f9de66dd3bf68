"""What can go wrong in an evaluation: each error says whose fault it is and whether a retry can help."""

from enum import StrEnum


class Fault(StrEnum):
    """Who has to act after a failure."""

    SUBMITTER = "submitter"
    OPERATOR = "operator"
    OURS = "ours"


class EvaluatorError(Exception):
    """Root of the evaluator's errors. The message is one sentence: what was seen, what was expected, what to do."""

    fault = Fault.OURS
    retry_helps = False
    log: str = ""
    """The last lines that the process wrote in which it happened, where that was another one."""


class InvalidRequest(EvaluatorError):
    """A name, option or number that was asked for does not exist or is out of range."""

    fault = Fault.SUBMITTER


class FolderBusy(InvalidRequest):
    """Another process trains in the folder."""

    fault = Fault.OPERATOR
    retry_helps = True


class InvalidSetting(EvaluatorError):
    """An environment variable holds a value that cannot be used."""

    fault = Fault.OPERATOR


class InvalidCheckpoint(EvaluatorError):
    """A checkpoint file cannot be evaluated: unreadable, wrong names or shapes, weights or logits not finite."""

    fault = Fault.SUBMITTER


class InvalidResult(EvaluatorError):
    """A shard's report contradicts its specification or itself."""


class ReportsDisagree(EvaluatorError):
    """Workers report different outcomes of the same piece, and nothing tells which are right."""


class DatasetMissing(EvaluatorError):
    """The files of a data set are not where they should be, or not the ones they should be."""

    fault = Fault.OPERATOR


class ArtifactMissing(EvaluatorError):
    """A stored checkpoint is gone, or its bytes no longer match its address."""

    fault = Fault.OPERATOR


class ArtifactsUnavailable(EvaluatorError):
    """The folder or object store of the artifacts does not answer, forbids it, or is full."""

    fault = Fault.OPERATOR
    retry_helps = True


class OutOfMemory(EvaluatorError):
    """A measurement does not fit into the device's memory, whatever the batch size."""

    fault = Fault.OPERATOR


class ShardTimeout(EvaluatorError):
    """A shard was not measured within its time limit: the device hangs, or is too slow for the limit."""

    fault = Fault.OPERATOR
    retry_helps = True


class MeasuringDied(EvaluatorError):
    """The process that measures ended without an answer: it crashed, or was killed."""

    retry_helps = True


class MeasuringFailed(EvaluatorError):
    """The process that measures met an error that nobody foresaw."""

    retry_helps = True


class LostLease(EvaluatorError):
    """A worker reports on a shard that meanwhile belongs to another attempt; its report is refused."""


class WorkerSilent(EvaluatorError):
    """A worker did not renew its lease in time."""


class StoreUnavailable(EvaluatorError):
    """The run store's database does not answer, or has no tables yet."""

    fault = Fault.OPERATOR
    retry_helps = True
