"""Live state: what Redis holds and why it can be trusted.

Owns: the Redis connection, generations, epochs and versions, the commit script, once-marks, the stream.
Promises: a copy that may have forgotten is never believed; a commit applies all or nothing.
Never: anything but minutes-lived state; a fallback that answers "alive"; knowledge of OAuth.
Specs: none but our own.
"""
