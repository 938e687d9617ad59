"""Errors that a person can act on. Their text says what was found, what fits, and what to do."""


class OrchardError(Exception):
    """Base of every error that Orchard raises on purpose; the command line prints it as one block."""

    exit_code = 2  # the input is to be mended, and nothing was started


class ConfigError(OrchardError):
    """A config, preset, field or cluster that cannot work."""


class DataError(OrchardError):
    """A dataset that is missing, damaged or not the one asked for."""


class ClusterError(OrchardError):
    """A Ray address, a machine or its resources that cannot run what was asked."""


class StorageError(ClusterError):
    """A store of objects that does not answer, or not as it should; asking again later may help."""


class CheckpointError(OrchardError):
    """A checkpoint that is damaged, or belongs to another config or number of workers."""


class RegistryError(OrchardError):
    """A registry, remote, artifact or version that cannot be read, written or trusted."""


class TrainingError(OrchardError):
    """A stage that started and then failed, such as on a non-finite loss."""

    exit_code = 1


class GateFailed(OrchardError):
    """A result that is not good enough to go on."""

    exit_code = 3


class Cancelled(OrchardError):
    """A run that somebody stopped; its checkpoints are kept."""

    exit_code = 130
