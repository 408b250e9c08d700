"""`python -m app`, and what the installed `deputy` runs."""

import gc

# What is imported stays: looking for garbage in it again and again would be a quarter of every start.
gc.disable()

from app.wiring import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()
