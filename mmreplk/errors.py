class InputError(ValueError):
    """What the user gave cannot be used; the message alone says what and why, so tools print it without a traceback."""
