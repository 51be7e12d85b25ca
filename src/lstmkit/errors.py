"""A user's mistakes. Each says what is wrong, where, and what to do, in one line; the command line exits with 2."""


class UserError(ValueError):
    """Something the user can mend. Its message is one line."""


class DataError(UserError):
    """The data cannot be used as they are."""


class SettingError(UserError):
    """A setting is unknown or out of range."""


class ModelFileError(UserError):
    """A saved model or run is damaged, unfinished, or from a newer version."""


class TrainingError(UserError):
    """Training cannot go on (the loss is no longer a number)."""
