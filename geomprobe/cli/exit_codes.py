"""What the exit code of a command says."""

COMPLETE = 0
#: A finding failed, or a file could not be written.
PARTIAL = 1
#: The input cannot be used.
UNUSABLE = 2
#: A condition of ``--fail-on`` holds.
FAILED_CONDITION = 3
