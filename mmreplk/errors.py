class InputError(ValueError):
    """Input that cannot be used. The message alone says what is wrong and why: tools print it without a traceback."""
