"""The errors of ser-kedro. A message is one line: what, where, what to do."""


class SerKedroError(Exception):
    """Base of every error that a user can cause or mend; exit code 2."""


class ParameterError(SerKedroError):
    """A parameter is unknown, of the wrong type or out of range."""


class DataError(SerKedroError):
    """Preference data cannot be read, or too little of it is usable."""


class ModelError(SerKedroError):
    """A model cannot be loaded, or cannot serve as asked."""


class StoreError(SerKedroError):
    """A reference points to nothing, or the store cannot be written."""


class PolicyError(SerKedroError):
    """The training of a policy has left the finite numbers."""
