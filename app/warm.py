"""gunicorn's configuration (`--config python:app.warm`): its master imports all of it once, and a worker is there as soon as it is forked."""

import gc

# What is imported stays: looking for garbage in it is a quarter of a start, and marks memory that workers otherwise share.
gc.disable()

import app.serving  # noqa: E402, F401

gc.freeze()
gc.enable()
