"""`python -m app`: the `deputy` command where no script was installed."""

from app.wiring import main

main()
