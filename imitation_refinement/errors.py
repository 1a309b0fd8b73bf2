"""The one exception that is meant for the person at the keyboard.

Belongs here: `UserError` only. The program prints it as `error: <message>` and exits with
status 1; every other exception is a defect of the program and keeps its traceback.
"""


class UserError(Exception):
    """Something the user can mend: one line naming the file or field, what is wrong, what to do."""
